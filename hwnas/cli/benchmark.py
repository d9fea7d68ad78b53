"""`hwnas benchmark`: measure model files on a device and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.devices.profile import DeviceProfile
    from hwnas.measurement import Measurement

UNSTEADY = 0.05
"""Half-width of the 95 % interval over the median from which a latency is flagged."""

TOO_NOISY = 0.25
"""The same, from which it is no latency at all."""


@click.command("benchmark")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--target", default="host-cpu", show_default=True, help="Device name or profile.")
@click.option("--raw", is_flag=True, help="This run's clock, not scaled by the reference model.")
@click.option("--seed", default=0, show_default=True, help="Of inputs and order.")
@click.option("--out", type=click.Path(dir_okay=False), help="Write all samples as JSON.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def benchmark(
    files: tuple[str, ...], target: str, raw: bool, seed: int, out: str | None, as_json: bool
) -> None:
    """Measure model files on a device, interleaved in one process, and compare them.

    Ratios are to the first FILE; "tie" where their 95 % interval includes 1.
    """
    run_benchmark(files, target, raw=raw, seed=seed, out=out, as_json=as_json)


def run_benchmark(
    files: Sequence[str],
    target: str,
    *,
    raw: bool = False,
    seed: int = 0,
    out: str | None = None,
    as_json: bool = False,
) -> None:
    """Measure, print, and raise `TooNoisy` if an interval is too wide for any use."""
    from hwnas.devices.profile import find_profile
    from hwnas.files import write_json

    profile = find_profile(target)
    measurements = _calibrated(_measured(files, profile, seed), profile)
    document = summary(measurements, profile, raw)
    if out:
        write_json(Path(out), {**document, "measurements": measurements})
    if as_json:
        print_json(document)
    else:
        _print(document)
        if out:
            click.echo(f"all samples: {out}")
    _refuse_noise(document)


def summary(
    measurements: Sequence[Measurement], profile: DeviceProfile, raw: bool = False
) -> dict[str, Any]:
    """Return what is reported of measurements of one batch, as plain data."""
    environment = measurements[0].environment
    return {
        "schema": 1,
        "target": profile.name,
        "title": profile.title,
        "kind": measurements[0].kind,
        "scale": "raw" if raw or not measurements[0].calibrated_reference_ms else "calibrated",
        "environment": environment,
        "reference": {
            "median_ms": measurements[0].reference_ms,
            "calibrated_ms": measurements[0].calibrated_reference_ms,
            "drift": max((one.drift for one in measurements), key=abs),
        },
        "results": [_row(one, measurements[0], raw) for one in measurements],
    }


def _measured(
    files: Sequence[str],
    profile: DeviceProfile,
    seed: int,
) -> list[Measurement]:
    from rich.console import Console
    from rich.progress import Progress

    from hwnas.devices.runner import Subject, open_runner

    runner = open_runner(profile)
    subjects = [Subject(name=file, path=Path(file)) for file in files]
    try:
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("measuring", total=None)
            return runner.measure(
                subjects,
                seed=seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    finally:
        runner.close()


def _calibrated(measurements: list[Measurement], profile: DeviceProfile) -> list[Measurement]:
    """Express latencies in the milliseconds of the device's calibration, if there is one."""
    import msgspec

    from hwnas.devices.runner import file_sha256, reference_file
    from hwnas.latency_models.store import calibration

    reference = file_sha256(reference_file(profile.runtime))
    found_ms = calibration(measurements[0].environment, reference)
    return [msgspec.structs.replace(one, calibrated_reference_ms=found_ms) for one in measurements]


def _row(one: Measurement, first: Measurement, raw: bool) -> dict[str, Any]:
    from hwnas.measurement import compare

    scaled = one.raw() if raw else one
    low, high = scaled.ci95_ms
    half_width = (high - low) / 2 / scaled.median_ms
    against = compare(one, first)
    return {
        "file": one.name,
        "sha256": one.sha256,
        "median_ms": scaled.median_ms,
        "ci95_ms": [low, high],
        "p90_ms": scaled.p90_ms,
        "p99_ms": scaled.p99_ms,
        "min_ms": scaled.min_ms,
        "cv": scaled.cv,
        "ratio": against.ratio,
        "ratio_ci95": [against.low, against.high],
        "tie": one is not first and against.tie,
        "raw_median_ms": one.raw_median_ms,
        "first_run_ms": one.first_run_ms,
        "load_ms": one.load_ms,
        "rounds": len(one.rounds),
        "samples": len(one.samples_ms),
        "half_width": half_width,
        "unsteady": half_width > UNSTEADY,
    }


def _refuse_noise(document: dict[str, Any]) -> None:
    from hwnas.errors import TooNoisy

    worst = max(document["results"], key=lambda row: row["half_width"])
    if worst["half_width"] > TOO_NOISY:
        raise TooNoisy(
            f"{worst['file']}: the 95 % interval is ±{worst['half_width']:.0%} of the median, more "
            f"than ±{TOO_NOISY:.0%} says nothing; close other programs and measure again"
        )


def _print(document: dict[str, Any]) -> None:
    click.echo(_header(document))
    titles = ["file", "median ms", "95 % CI", "p90", "p99", "min", "CV", "ratio to the first", ""]
    rows = [_cells(row, first=index == 0) for index, row in enumerate(document["results"])]
    print_table(titles, rows)
    for note in _notes(document):
        click.echo(note)


def _cells(row: dict[str, Any], first: bool) -> list[str]:
    low, high = row["ci95_ms"]
    ratio_low, ratio_high = row["ratio_ci95"]
    tie = ", tie" if row["tie"] else ""
    ratio = f"{row['ratio']:.3f} ({ratio_low:.3f} to {ratio_high:.3f}{tie})"
    return [
        row["file"],
        _digits(row["median_ms"]),
        f"{_digits(low)} to {_digits(high)}",
        *(_digits(row[name]) for name in ("p90_ms", "p99_ms", "min_ms")),
        f"{row['cv']:.1%}",
        "1" if first else ratio,
        "unsteady" if row["unsteady"] else "",
    ]


def _header(document: dict[str, Any]) -> str:
    said = document["environment"]
    cores = ", ".join(map(str, said.affinity))
    parts = [
        f"{document['target']}: {said.hardware}",
        f"{said.runtime} {said.runtime_version}",
        f"{said.threads} thread{'s' if said.threads > 1 else ''}",
        f"pinned to core {cores}" if cores else "not pinned",
        f"governor {said.governor or 'unknown'}",
        f"load {said.load_before:.2f}" if said.load_before is not None else "load unknown",
    ]
    return " · ".join(parts)


def _notes(document: dict[str, Any]) -> list[str]:
    from hwnas.measurement import DRIFT_LIMIT

    notes: list[str] = []
    if document["kind"] != "measured":
        notes.append(f"These latencies are {document['kind']}, not measured.")
    drift = document["reference"]["drift"]
    if document["reference"]["calibrated_ms"]:
        beyond = abs(drift) > DRIFT_LIMIT
        advice = "; over 10 %: `hwnas latency measure --again` calibrates anew" if beyond else ""
        notes.append(f"The reference model ran {drift:+.1%} against its calibration{advice}.")
    if any(row["unsteady"] for row in document["results"]):
        notes.append(f"unsteady: the 95 % interval is wider than ±{UNSTEADY:.0%} of the median.")
    return notes


def _digits(milliseconds: float) -> str:
    """Four significant digits, never an exponent."""
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.4g}"
