"""How large, how noisy and how fast are files of each precision, beside float32?

    python -m tools.bench.compiler.precisions [--network NAME ...] [--compile-only]

Networks of torchvision, or ``timm:NAME``, with random weights from seed 0. The noise is that of the
outputs on standard normal images, which int8 files are calibrated on, too. The files of one network
and format are measured interleaved on one thread.

Files and finished rows are stored in ``--work``: ``--compile-only`` prepares the files, so that a
quiet machine is needed for the latencies only. Writes
``tools/bench/compiler/results/precisions.md``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import msgspec
import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Format, Precision
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.export.quantization.int8_agreement import compare_int8
from hwnas.export.quantization.ptq import Int8
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.images import Verification
from hwnas.measurement.measurement import compare
from tools.bench.compiler.networks import torchvision_network
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "precisions.md"
PROFILES: dict[Format, str] = {"onnx": "host-cpu", "tflite": "host-cpu-litert"}
NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "resnet18", "timm:deit_tiny_patch16_224")
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CALIBRATION_IMAGES, VERIFICATION_IMAGES = 8, 4
SIZE_PX = 224


class Compiled(NamedTuple):
    """A file, and its noise."""

    network: str
    format: Format
    precision: Precision
    path: str
    size_bytes: int
    sqnr_db: float


class Row(NamedTuple):
    file: Compiled
    median_ms: float
    ratio: float
    ci95: tuple[float, float]


@click.command()
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--compile-only", is_flag=True, help="Prepare the files, measure nothing.")
@click.option("--work", type=PATH, default=Path("build/bench_precisions"), show_default=True)
@out_option(RESULTS)
def main(networks: tuple[str, ...], compile_only: bool, work: Path, out: Path) -> None:
    """Compare files of each precision with float32 in size, noise and latency."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in networks:
        for format in PROFILES:
            files = compiled(name, format, work)
            if not compile_only:
                rows += measured(files, format)
                click.echo(
                    f"{name} {format}: {[f'{row.ratio:.2f}' for row in rows[-len(files) :]]}"
                )
    if not compile_only:
        click.echo(write_report(rows, networks, out))


def compiled(name: str, format: Format, work: Path) -> list[Compiled]:
    """Return the files of a network, which are compiled unless a former run did."""
    done = work / f"{name.replace(':', '-')}-{format}.json"
    if done.exists():
        return msgspec.json.decode(done.read_bytes(), type=list[Compiled])
    module, shape = build(name), (3, SIZE_PX, SIZE_PX)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((CALIBRATION_IMAGES + VERIFICATION_IMAGES, *shape))
    calibration, images = np.split(noise.astype(np.float32), [CALIBRATION_IMAGES])
    files: list[Compiled] = []
    for precision in PRECISIONS:
        path = work / f"{name.replace(':', '-')}-{precision}.{format}"
        int8 = Int8(calibration) if precision == "int8" else None
        recipe = find_recipe(format, precision)
        artifact = compile_model(module, shape, path, int8=int8, recipe=recipe)
        noise_db = compare_int8(path, module, Verification(images)).sqnr_db or 0.0
        files.append(Compiled(name, format, precision, str(path), artifact.size_bytes, noise_db))
    done.write_bytes(msgspec.json.encode(files))
    return files


def build(name: str) -> nn.Module:
    """Return a network with random weights."""
    if not name.startswith("timm:"):
        return torchvision_network(name)[0]
    import timm

    torch.manual_seed(0)
    network: Any = timm.create_model(name.removeprefix("timm:"), pretrained=False)
    return network.eval()


def measured(files: list[Compiled], format: Format) -> list[Row]:
    """Return the latency of each file, against the first."""
    subjects = [Subject(file.precision, Path(file.path)) for file in files]
    with open_runner(find_profile(PROFILES[format])) as runner:
        results = {result.name: result for result in runner.measure(subjects)}
    first = results[files[0].precision]
    rows: list[Row] = []
    for file in files:
        result = results[file.precision]
        ratio = compare(result, first)
        rows.append(Row(file, result.raw_median_ms, ratio.ratio, (ratio.low, ratio.high)))
    return rows


def write_report(rows: list[Row], networks: tuple[str, ...], out: Path) -> str:
    """Write the results file and return its text."""
    titles = (
        *("network", "format", "precision", "size, MB", "size / fp32", "noise below, dB"),
        *("latency, ms", "latency / fp32", "95 % interval"),
    )
    whole = {(row.file.network, row.file.format): row.file.size_bytes for row in reversed(rows)}
    cells = [
        (
            row.file.network,
            row.file.format,
            row.file.precision,
            f"{row.file.size_bytes / 1e6:.2f}",
            f"{row.file.size_bytes / whole[row.file.network, row.file.format]:.2f}",
            f"{row.file.sqnr_db:.1f}",
            f"{row.median_ms:.2f}",
            f"{row.ratio:.2f}",
            f"{row.ci95[0]:.2f}-{row.ci95[1]:.2f}",
        )
        for row in rows
    ]
    return write_results(
        out,
        "Precisions against float32",
        command(__file__, *(f"--network {name}" for name in networks)),
        f"Random weights from seed 0, {SIZE_PX} px. Noise of the outputs on {VERIFICATION_IMAGES} "
        f"images of standard normal noise; int8 is calibrated on {CALIBRATION_IMAGES} others.",
        table(titles, cells),
        conditions="one thread",
    )


if __name__ == "__main__":
    main()
