"""`hwnas benchmark`: measure model files on a device and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.benchmark.table import digits, print_document, summary
from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import TARGET
from hwnas.cli.tables import print_json, print_table
from hwnas.errors import TooNoisy, UsageError

if TYPE_CHECKING:
    from hwnas.architecture.runtimes import RuntimeName
    from hwnas.devices.profile import DeviceProfile
    from hwnas.devices.runner import Subject
    from hwnas.devices.runners.memory import PeakMemory
    from hwnas.measurement.measurement import Measurement

TOO_NOISY = 0.25
"""Half-width of the 95 % interval over the median, from which it is no latency at all."""


def _share(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """Read ``5%`` or ``0.05``."""
    try:
        share = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 10:
        raise click.BadParameter(f"{value!r}: expected a share such as 5% or 0.05")
    return share


def _batches(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    """Read ``1,8,32``."""
    words = [word.strip() for word in value.split(",")]
    if not all(word.isdecimal() and 0 < int(word) <= 65536 for word in words):
        raise click.BadParameter(f"{value!r}: expected numbers from 1 on, such as 1,8,32,64")
    return tuple(dict.fromkeys(map(int, words)))


@click.command("benchmark")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@option("--target", type=TARGET, default="host-cpu", help="Device to measure on.")
@click.option("--batch", "batches", default="1", show_default=True, callback=_batches,
              help="Inputs at once, e.g. 1,8,32,64: each FILE with each.")  # fmt: skip
@click.option("--raw", is_flag=True, help="This run's clock, not scaled by the reference model.")
@click.option("--per-op", is_flag=True, help="Also the time of each operator.")
@click.option("--benchmark-binary", type=click.Path(dir_okay=False), metavar="FILE",
              help="TFLite's benchmark_model for the device: measures there.")  # fmt: skip
@click.option("--baseline", type=click.Path(), help="Judge each FILE against this earlier run.")
@click.option("--max-regress", default="5%", show_default=True, callback=_share, metavar="SHARE",
              help="How much slower than its baseline a FILE may be.")  # fmt: skip
@click.option("--save-baseline", type=click.Path(dir_okay=False), help="Write this run as one.")
@click.option("--junit", type=click.Path(dir_okay=False), help="Write the verdicts as JUnit XML.")
@click.option("--markdown", type=click.Path(dir_okay=False), help="Write the table as Markdown.")
@click.option("--seed", default=0, show_default=True, help="Of inputs and order.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write all samples as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def benchmark(files: tuple[str, ...], target: str, as_json: bool, **options: Any) -> None:
    """Measure model files on a device, interleaved in one process, and compare them.

    Ratios are to the first FILE; "tie" where their 95 % interval leaves it open. ONNX, TFLite
    and PyTorch (.pt2) files go together on a device that has their runtimes, as this machine.

    With --baseline the exit code is 5 for a FILE that is slower than allowed beyond doubt, and 6
    where the noise forbids a verdict after measuring three times.
    """
    run_benchmark(files, target, as_json=as_json, **options)


def run_benchmark(
    files: Sequence[str],
    target: str,
    *,
    batches: Sequence[int] = (1,),
    raw: bool = False,
    per_op: bool = False,
    benchmark_binary: str | None = None,
    baseline: str | None = None,
    max_regress: float = 0.05,
    save_baseline: str | None = None,
    junit: str | None = None,
    markdown: str | None = None,
    seed: int = 0,
    out: str | None = None,
    as_json: bool = False,
) -> None:
    """Measure, print, and raise `Regression` or `TooNoisy` where that is the verdict."""
    from hwnas.cli.benchmark.gate import Gate, markdown_of, save, write_junit
    from hwnas.devices.profile import find_profile, with_benchmark_binary
    from hwnas.devices.runner import file_sha256, reference_file
    from hwnas.files import write_atomic, write_json

    profile = find_profile(target)
    if benchmark_binary is not None:
        profile = with_benchmark_binary(profile, benchmark_binary)
    subjects = _subjects(files, batches, profile)
    if per_op:
        _check_per_op(subjects, profile)
    reference = file_sha256(reference_file(profile.runtime))
    names = [one.name for one in subjects]
    gate = Gate(baseline, max_regress, raw, reference, names) if baseline else None

    def measure(attempt: int) -> list[Measurement]:
        return _calibrated(_measured(subjects, profile, seed + 1000 * attempt), profile, reference)

    measurements = measure(0)
    if gate:
        measurements = gate.decide(measurements, measure)
    memory = _peak_memory(subjects, profile)
    document = summary(measurements, profile, raw, [one.path for one in subjects], memory)
    if per_op:
        document["operators"] = _operators(subjects, profile)
    if gate:
        document["gate"] = gate.said()
    if out:
        write_json(Path(out), {**document, "measurements": measurements})
    if junit:
        write_junit(Path(junit), document)
    if markdown:
        write_atomic(Path(markdown), markdown_of(document))
    if as_json:
        print_json(document)
    else:
        print_document(document)
        _print_operators(document)
        if out:
            click.echo(f"all samples: {out}")
    if gate:
        gate.refuse()
    else:
        _refuse_noise(document)
    if save_baseline:
        save(Path(save_baseline), measurements, measure, reference)
        click.echo(f"baseline: {save_baseline}", err=as_json)


def _check_per_op(subjects: Sequence[Subject], profile: DeviceProfile) -> None:
    if profile.gpu is not None:
        raise UsageError(
            f"--per-op: of {profile.name} a profile tells when kernels are launched, not how long "
            "they take"
        )
    if profile.transport == "simulated" or profile.runner:
        raise UsageError(f"--per-op: {profile.name} has no profiler")
    for one in subjects:
        if one.path.suffix == ".pt2":
            raise UsageError(f"--per-op: {one.path}: of .onnx and .tflite files only")
        if one.batch != 1:
            raise UsageError(f"--per-op: operators are timed on one image, not on {one.batch}")


def _subjects(
    files: Sequence[str], batches: Sequence[int], profile: DeviceProfile
) -> list[Subject]:
    """Return the files to be measured, each with its own runtime where the device has several."""
    from hwnas.architecture.runtimes import RUNTIMES
    from hwnas.devices.limits import check_size
    from hwnas.devices.runner import Subject, check_file

    runtimes: dict[str, RuntimeName] = {
        runtime.suffix: runtime.name for runtime in RUNTIMES.values()
    }
    own = profile.transport in ("local", "simulated") and profile.gpu is None
    subjects = [
        Subject(
            file if batch == 1 else f"{file} x{batch}",
            Path(file),
            runtimes.get(Path(file).suffix) if own else None,
            batch,
        )
        for file in files
        for batch in batches
    ]
    for subject in subjects:
        check_file(subject, profile)
        check_size(str(subject.path), subject.path.stat().st_size, profile)
    return subjects


def _measured(subjects: Sequence[Subject], profile: DeviceProfile, seed: int) -> list[Measurement]:
    from rich.console import Console
    from rich.progress import Progress

    from hwnas.devices.runner import open_runner

    console = Console(stderr=True)
    hidden = not console.is_terminal
    with (
        open_runner(profile) as runner,
        Progress(console=console, transient=True, disable=hidden) as bar,
    ):
        task = bar.add_task("measuring", total=None)
        return runner.measure(
            subjects,
            seed=seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )


def _calibrated(
    measurements: list[Measurement], profile: DeviceProfile, reference: str
) -> list[Measurement]:
    """Express latencies in the milliseconds of the device's calibration, if there is one.

    Files of both formats were measured beside the reference of the device's own runtime.
    """
    import msgspec

    from hwnas.latency_models.storage.store import calibration

    own = next((m for m in measurements if m.environment.runtime == profile.runtime), None)
    found_ms = calibration(own.environment, reference) if own else None
    return [msgspec.structs.replace(one, calibrated_reference_ms=found_ms) for one in measurements]


def _peak_memory(subjects: Sequence[Subject], profile: DeviceProfile) -> list[PeakMemory] | None:
    """Return what the files take in memory; known of this machine only."""
    from hwnas.devices.runners.memory import peak_memory

    if profile.transport != "local" or profile.gpu is not None:
        return None
    files: list[tuple[Path, RuntimeName]] = [
        (one.path, one.runtime or profile.runtime) for one in subjects
    ]
    return peak_memory(files, profile.measure.threads, [one.batch for one in subjects])


def _operators(subjects: Sequence[Subject], profile: DeviceProfile) -> list[dict[str, Any]]:
    from hwnas.devices.op_profile.local import operator_times

    if profile.transport != "local":
        return _operators_there(subjects, profile)
    return [
        {
            "file": one.name,
            "rows": operator_times(
                one.path, one.runtime or profile.runtime, profile.measure.threads
            ),
        }
        for one in subjects
    ]


def _operators_there(subjects: Sequence[Subject], profile: DeviceProfile) -> list[dict[str, Any]]:
    from hwnas.devices.op_profile.remote import operator_times_there
    from hwnas.devices.runners.remote import RemoteRunner

    with RemoteRunner(profile) as runner:
        return [{"file": one.name, "rows": operator_times_there(runner, one)} for one in subjects]


def _print_operators(document: dict[str, Any]) -> None:
    for one in document.get("operators", ()):
        click.echo(f"\n{one['file']}, operator by operator (profiled apart from the timing)")
        titles = ["operator", "kind", "provider", "median ms", "share"]
        rows = [
            [row.name, row.kind, row.provider, digits(row.median_ms), f"{row.share:.1%}"]
            for row in one["rows"]
        ]
        print_table(titles, rows, left=3)


def _refuse_noise(document: dict[str, Any]) -> None:
    worst = max(document["results"], key=lambda row: row["half_width"])
    if worst["half_width"] > TOO_NOISY:
        raise TooNoisy(
            f"{worst['file']}: the 95 % interval is ±{worst['half_width']:.0%} of the median, more "
            f"than ±{TOO_NOISY:.0%} says nothing; close other programs and measure again"
        )
