"""One network of EAS, trained for a few epochs in a process of its own.

``python -m hwnas.search.eas.train_worker FOLDER`` reads ``job.json``, ``initial.safetensors``
(none: fresh weights), ``teacher.*`` (none: labels only) and the images in ``../data.safetensors``;
it writes
``network.safetensors``, then ``result.json``. The same folder gives the same weights wherever it is
trained: one thread, and all randomness from the job's seed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import msgspec
import torch

from hwnas.architecture.architecture import Architecture, Block
from hwnas.files import write_atomic, write_json
from hwnas.nn.build import build
from hwnas.nn.growth.transforms import Net
from hwnas.processes import watch_parent
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.loader import Data, derived_seed
from hwnas.training.loop import (
    RECALIBRATED,
    EpochLog,
    TrainingPlan,
    accuracy,
    keep_freed_memory,
    recalibrate,
    train,
)

INPUTS = ("job.json", "initial.safetensors", "teacher.json", "teacher.safetensors")
OUTPUTS = ("network.safetensors", "result.json")
"""Files of a child's folder; the last one is there when all is done."""


class ChildJob(msgspec.Struct, frozen=True):
    """``job.json``"""

    architecture: Architecture
    plan: TrainingPlan
    seed: int


class ChildResult(msgspec.Struct, frozen=True):
    """``result.json``"""

    accuracy: float
    """On the validation images: a share of 1."""
    loss: float
    """Of the last epoch's training."""
    seconds: float


def train_child(folder: Path, data: Path) -> None:
    """Train the network of a folder on the images of a file that `write_data` wrote."""
    torch.set_num_threads(1)
    keep_freed_memory()
    start = time.perf_counter()
    job = msgspec.json.decode((folder / "job.json").read_bytes(), type=ChildJob)
    train_images, valid_images = read_data(data)
    torch.manual_seed(derived_seed(job.seed, "weights", job.architecture.digest))
    network = build(job.architecture, job.plan.dropout)
    if (initial := folder / "initial.safetensors").exists():
        network.load_state_dict(load_checkpoint(initial)[0])
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    last: list[EpochLog] = []
    seed = derived_seed(job.seed, job.architecture.digest)
    train(network, train_images, job.plan, seed, None, last.append, _teacher(folder))
    recalibrate(network, train_images.drawn(RECALIBRATED, job.seed))
    found = accuracy(network, valid_images)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_checkpoint(folder / "network.safetensors", weights, {})
    seconds = time.perf_counter() - start
    write_json(folder / "result.json", ChildResult(found, last[-1].loss, seconds))


def write_data(path: Path, train_images: Data, valid_images: Data) -> None:
    """Write the images of a search for all its children."""
    tensors = {
        f"{split}.{name}": value
        for split, data in (("train", train_images), ("valid", valid_images))
        for name, value in data._asdict().items()
    }
    save_checkpoint(path, tensors, {})


def read_data(path: Path) -> tuple[Data, Data]:
    """Return training and validation images."""
    tensors, _ = load_checkpoint(path)

    def split(name: str) -> Data:
        data = Data(**{field: tensors[f"{name}.{field}"] for field in Data._fields})
        images = data.images.contiguous(memory_format=torch.channels_last)
        return data._replace(images=images)

    return split("train"), split("valid")


def put_teacher(folder: Path, teacher: Net) -> None:
    write_json(folder / "teacher.json", teacher.blocks)
    save_checkpoint(folder / "teacher.safetensors", dict(teacher.weights), {})


def train_parcel(parcel: dict[str, bytes], data: bytes) -> dict[str, bytes]:
    """Train a child whose files come as bytes, on any machine: return its outputs."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as scratch:
        folder, images = Path(scratch) / "child", Path(scratch) / "data.safetensors"
        for name, content in parcel.items():
            write_atomic(folder / name, content)
        write_atomic(images, data)
        train_child(folder, images)
        return {name: (folder / name).read_bytes() for name in OUTPUTS}


def _teacher(folder: Path) -> torch.nn.Module | None:
    path = folder / "teacher.json"
    if not path.exists():
        return None
    blocks = msgspec.json.decode(path.read_bytes(), type=tuple[Block, ...])
    return Net(blocks, load_checkpoint(folder / "teacher.safetensors")[0]).network()


def main() -> None:
    folder = Path(sys.argv[1])
    if parent := os.environ.get("HWNAS_PARENT"):
        watch_parent(int(parent))
    try:
        train_child(folder, folder.parent / "data.safetensors")
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            sys.exit("out of memory")
        raise


if __name__ == "__main__":
    main()
