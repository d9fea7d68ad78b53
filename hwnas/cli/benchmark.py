"""`hwnas benchmark`: measure model files on a device and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option, quiet_option
from hwnas.cli.framework.options import (
    file_shape_option,
    file_shapes,
    progress_bar,
    wait_idle_option,
)
from hwnas.cli.framework.params import COUNTS, FILE, SHARE, TARGET
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.benchmarking.result import BenchmarkResult


@command(
    "benchmark",
    example=(
        "hwnas benchmark before.onnx after.onnx",
        "hwnas benchmark model.tflite --target pixel1 --baseline base.json --junit verdict.xml",
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@option(
    "--target",
    group="Measurement",
    type=TARGET,
    default="host-cpu",
    help="Device to measure on: a name or a profile.",
)
@option(
    "--batch",
    "batches",
    group="Measurement",
    type=COUNTS,
    default_help="each file's own, or 1",
    help="Batch sizes; every FILE is measured with each.",
)
@file_shape_option("Measurement")
@option(
    "--raw",
    group="Measurement",
    is_flag=True,
    help="Report this run's clock, without scaling by the reference model.",
)
@option("--per-op", group="Measurement", is_flag=True, help="Profile the time of each operator.")
@option(
    "--benchmark-binary",
    group="Measurement",
    type=FILE,
    help="Measure with this build of TFLite's benchmark_model for the device.",
)
@wait_idle_option
@option("--seed", group="Measurement", default=0, help="Random seed of inputs and order.")
@option(
    "--baseline",
    group="Regression gate",
    type=FILE,
    help="Judge every FILE against this baseline.",
)
@option(
    "--max-regress",
    group="Regression gate",
    type=SHARE,
    default="5%",
    help="How much slower than its baseline a FILE may be.",
)
@option(
    "--save-baseline",
    group="Regression gate",
    type=FILE,
    help="Write a baseline, unless a FILE failed.",
)
@option("--junit", group="Output", type=FILE, help="Write the verdicts as JUnit XML.")
@option("--markdown", group="Output", type=FILE, help="Write the table as Markdown.")
@option("--out", group="Output", type=FILE, help="Write the result with all samples as JSON.")
@json_option
@quiet_option
def benchmark(
    files: tuple[str, ...],
    save_baseline: Path | None,
    junit: Path | None,
    markdown: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
    input_shapes: tuple[tuple[str | None, str], ...],
    **options: object,
) -> None:
    """Measure model files on a device, interleaved, and compare them.

    A FILE may also be the folder of a run or a bundle, whose model file is measured.
    Ratios are to the first FILE; "tie" means that the 95 % interval includes equal speed. ONNX,
    TFLite and PyTorch (.pt2) files can be mixed on a device that has their runtimes.

    Calls that other programs disturb do not count; too few others are exit code 6.

    With --baseline the exit code is 5 if a FILE is slower than allowed, and 6 if the noise permits
    no verdict after measuring three times.
    """
    from hwnas.benchmarking import text
    from hwnas.benchmarking.run import Benchmark, BenchmarkRequest
    from hwnas.deploy.find import find_model_file
    from hwnas.files import write_atomic, write_json

    given = {
        name: str(value) if isinstance(value, Path) else value for name, value in options.items()
    }
    shapes = file_shapes(input_shapes)
    paths = tuple(str(find_model_file(file)) for file in files)
    request = BenchmarkRequest(files=paths, input_shapes=shapes, **given)  # type: ignore[arg-type]
    with progress_bar("measuring", quiet) as progress:
        run = Benchmark(request, progress)
        result = run.run()
    if as_json:
        print_json(result.to_dict())
    else:
        _print(result)  # before files are written, which a full disk prevents
    if out:
        write_json(out, result)
    if junit:
        write_atomic(junit, text.junit(result))
    if markdown:
        write_atomic(markdown, text.markdown(result))
    if out and not as_json:
        click.echo(f"All samples: {out}")
    run.check(result)
    if save_baseline:
        with progress_bar("measuring", quiet) as run.progress:
            run.save_baseline(save_baseline)
        click.echo(f"Baseline: {save_baseline}", err=as_json)


def _print(result: BenchmarkResult) -> None:
    from hwnas.benchmarking import text

    click.echo(text.header(result))
    print_table(*text.latency_table(result), 2)
    if batches := text.batch_table(result):
        print_table(*batches, left=2)
    for line in text.sentences(result):
        click.echo(line)
    for caption, table in text.operator_tables(result):
        click.echo(f"\n{caption}")
        print_table(*table, left=3)
