"""`hwnas train`: one architecture from scratch, resumable, alone in its folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from hwnas.architecture.architecture import Architecture
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.errors import UsageError
from hwnas.files import append_line, read_lines, write_atomic, write_json
from hwnas.networks.resolve import is_genotype, resolve_architecture
from hwnas.networks.weights import load_weights
from hwnas.nn.auxiliary import trainee
from hwnas.nn.build import build
from hwnas.spaces.published import adapted, published_names
from hwnas.specialize.distributed.tasks import TrainTask, together
from hwnas.specialize.run_folder import lock_folder
from hwnas.specialize.setup.batch_size import image_bytes, resolve_batch_size
from hwnas.specialize.setup.effort import EFFORTS, plans
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.loader import as_data, derived_seed
from hwnas.training.loop import (
    RECALIBRATED,
    EpochLog,
    TrainingPlan,
    accuracy,
    keep_freed_memory,
    recalibrate,
    train,
)

GIVEN_RATE = 0.2
"""Share of the usual learning rate for weights that were trained before: 0.02, at which EAS trains
its children; the whole rate undoes in one epoch what they know."""


class TrainJob(msgspec.Struct, frozen=True, kw_only=True):
    """What to train, on what, and where to put it."""

    architecture: str
    data: str
    out: str
    epochs: int | None = None
    """``None``: as in a quick run."""
    batch_size: int | None = None
    """``None``: as in a quick run, or what fits the memory (`setup.batch_size`)."""
    weights: str | None = None
    """File to begin with; ``None``: fresh ones."""
    flip: bool = True
    auxiliary: float = 0.0
    """What a second classifier counts in the training of cells (`hwnas.nn.auxiliary`)."""
    drop_path: float = 0.0
    """Probability that an image goes without a branch of a cell at the end."""
    seed: int = 0
    threads: int = 1


class TrainResult(msgspec.Struct, frozen=True):
    """``result.json`` of a training; accuracies are shares of 1."""

    digest: str
    validation_accuracy: float
    epochs: int
    seconds: float


def run_training(
    job: TrainJob,
    resume: bool,
    on_epoch: Callable[[EpochLog], None] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> TrainResult:
    """Train, judge on validation images, and write weights and result.

    The same job gives the same weights, also when it was cut off and resumed.
    """
    out = Path(job.out)
    done = out / "result.json"
    if done.exists():
        if not resume:
            raise UsageError(f"{out}: a training is there already; add --resume or another --out")
        return msgspec.json.decode(done.read_bytes(), type=TrainResult)
    architecture, dataset = _asked(job)
    if dataset.num_classes != architecture.num_classes:
        raise UsageError(
            f"{job.architecture} tells {architecture.num_classes} classes apart, "
            f"{job.data} has {dataset.num_classes}"
        )
    with lock_folder(out):
        return _train(job, architecture, dataset, on_epoch, say)


def _train(
    job: TrainJob,
    architecture: Architecture,
    dataset: Dataset,
    on_epoch: Callable[[EpochLog], None] | None,
    say: Callable[[str], None],
) -> TrainResult:
    out = Path(job.out)
    torch.set_num_threads(job.threads)
    keep_freed_memory()
    data = as_data(dataset.train, dataset)
    plan = _plan(job, len(data.labels), architecture, say)
    torch.manual_seed(derived_seed(job.seed, "weights", architecture.digest))
    network = build(architecture, plan.dropout)
    if job.weights is not None:
        load_weights(network, Path(job.weights))
    trained = trainee(network, architecture, plan.auxiliary)
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    log, checkpoint = out / "log.jsonl", out / "checkpoint.safetensors"
    _drop_cut_off(log, checkpoint)
    start = time.perf_counter()

    def note(line: EpochLog) -> None:
        append_line(log, line)
        if on_epoch is not None:
            on_epoch(line)

    seed = derived_seed(job.seed, architecture.digest)
    with together(TrainTask(architecture, job.data, plan, seed, job.threads)):
        train(trained, data, plan, seed, checkpoint, note)
    # the running averages of a short training lag behind its weights
    recalibrate(network, data.drawn(RECALIBRATED, job.seed))
    valid = accuracy(network, as_data(dataset.valid, dataset))
    save_checkpoint(
        out / "network.safetensors", network.state_dict(), {"architecture": architecture.digest}
    )
    seconds = time.perf_counter() - start
    result = TrainResult(architecture.digest, valid, plan.epochs, seconds)
    write_json(out / "result.json", result)
    checkpoint.unlink(missing_ok=True)
    return result


def _asked(job: TrainJob) -> tuple[Architecture, Dataset]:
    """Return the network, a published one with the images' size and classes, and the data."""
    if is_genotype(job.architecture):
        dataset = load_dataset(job.data)
        return resolve_architecture(
            job.architecture, input_shape=dataset.input_shape, num_classes=dataset.num_classes
        ), dataset
    architecture = resolve_architecture(job.architecture)
    dataset = load_dataset(job.data, input_shape=architecture.input_shape)
    if job.architecture in published_names():
        architecture = adapted(architecture, dataset.input_shape, dataset.num_classes)
    return architecture, dataset


def _plan(
    job: TrainJob, images: int, architecture: Architecture, say: Callable[[str], None]
) -> TrainingPlan:
    plan = plans(EFFORTS["quick"], images, architecture.macs, job.flip)[1]
    plan = msgspec.structs.replace(plan, auxiliary=job.auxiliary, drop_path=job.drop_path)
    if job.epochs is not None:
        plan = msgspec.structs.replace(plan, epochs=job.epochs)
    size = job.batch_size or resolve_batch_size(
        Path(job.out) / "batch_size.json", plan.batch_size, image_bytes(architecture), say,
        "; --batch-size decides otherwise",
    )  # fmt: skip
    if size != plan.batch_size:
        plan = msgspec.structs.replace(plan, batch_size=size, peak_learning_rate=0.1 * size / 64)
    if job.weights is not None:
        rate = GIVEN_RATE * plan.peak_learning_rate
        plan = msgspec.structs.replace(plan, peak_learning_rate=rate)
    return plan


def _drop_cut_off(log: Path, checkpoint: Path) -> None:
    """Keep the log lines of epochs that the checkpoint holds."""
    done = int(load_checkpoint(checkpoint)[1]["epoch"]) if checkpoint.exists() else 0
    lines = [line for line in read_lines(log, EpochLog) if line.epoch <= done]
    write_atomic(log, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
