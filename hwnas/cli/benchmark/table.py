"""What `hwnas benchmark` reports: one document, and its table for people."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.tables import print_table

if TYPE_CHECKING:
    from hwnas.devices.profile import DeviceProfile
    from hwnas.devices.runners.memory import PeakMemory
    from hwnas.measurement.measurement import Gpu, Measurement

UNSTEADY = 0.05
"""Half-width of the 95 % interval over the median from which a latency is flagged."""


def summary(
    measurements: Sequence[Measurement],
    profile: DeviceProfile,
    raw: bool = False,
    files: Sequence[Path] = (),
    memory: Sequence[PeakMemory] | None = None,
) -> dict[str, Any]:
    """Return what is reported of measurements of one batch, as plain data."""
    rows = [_row(one, measurements[0], raw) for one in measurements]
    for row, file in zip(rows, files, strict=False):
        row["size_bytes"] = file.stat().st_size
    for row, one in zip(rows, memory or (), strict=False):
        row["peak_memory_bytes"] = one.model_bytes
        row["process_memory_bytes"] = one.total_bytes
    return {
        "schema": 1,
        "target": profile.name,
        "title": profile.title,
        "kind": measurements[0].kind,
        "scale": "raw" if raw or not measurements[0].calibrated_reference_ms else "calibrated",
        "environment": measurements[0].environment,
        "reference": {
            "runtime": profile.runtime,
            "median_ms": measurements[0].reference_ms,
            "calibrated_ms": measurements[0].calibrated_reference_ms,
            "drift": max((one.drift for one in measurements), key=abs),
        },
        "results": rows,
        "differences": _differences(measurements),
    }


def _row(one: Measurement, first: Measurement, raw: bool) -> dict[str, Any]:
    from hwnas.measurement.measurement import compare

    scaled = one.raw() if raw else one
    low, high = scaled.ci95_ms
    half_width = (high - low) / 2 / scaled.median_ms
    against = compare(one, first)
    return {
        "file": one.name,
        "sha256": one.sha256,
        "runtime": one.environment.runtime,
        "runtime_version": one.environment.runtime_version,
        "batch": one.batch,
        "inputs_per_s": one.batch * 1e3 / scaled.median_ms,
        "on_gpu": one.on_gpu,
        "size_bytes": None,
        "peak_memory_bytes": None,
        "process_memory_bytes": None,
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


def _differences(measurements: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Compare every two files, the faster ones first."""
    from hwnas.measurement.measurement import compare

    ordered = sorted(measurements, key=lambda one: one.ratio)
    found: list[dict[str, Any]] = []
    for place, slower in enumerate(ordered):
        for faster in ordered[:place]:
            said = compare(slower, faster)
            found.append(
                {
                    "faster": faster.name,
                    "slower": slower.name,
                    "ratio": said.ratio,
                    "ratio_ci95": [said.low, said.high],
                    "real": not said.tie,
                }
            )
    return found


def print_document(document: dict[str, Any]) -> None:
    click.echo(_header(document))
    titles = ["file", "median ms", "95 % CI", "p90", "p99", "CV", "size", "memory",
              "ratio to the first", ""]  # fmt: skip
    rows = [_cells(row, first=index == 0) for index, row in enumerate(document["results"])]
    print_table(titles, rows)
    _print_batches(document["results"])
    for note in (*_said_differences(document), *_said_gate(document), *notes(document)):
        click.echo(note)


def _cells(row: dict[str, Any], first: bool) -> list[str]:
    low, high = row["ci95_ms"]
    return [
        row["file"],
        digits(row["median_ms"]),
        f"{digits(low)} to {digits(high)}",
        *(digits(row[name]) for name in ("p90_ms", "p99_ms")),
        f"{row['cv']:.1%}",
        size(row["size_bytes"]),
        size(row["peak_memory_bytes"]),
        "1" if first else ratio_text(row),
        "unsteady" if row["unsteady"] else "",
    ]


def _print_batches(results: Sequence[dict[str, Any]]) -> None:
    """Print throughput and transfers where there is a batch or a GPU."""
    if not any(row["batch"] > 1 or row["on_gpu"] for row in results):
        return
    titles = ["file", "computed by", "batch", "inputs / s", "wall ms", "input there ms", "back ms"]
    rows: list[list[str]] = []
    for row in results:
        gpu = row["on_gpu"]
        taken = (gpu.wall_ms, gpu.to_gpu_ms, gpu.from_gpu_ms) if gpu else (None, None, None)
        who = f"{gpu.provider} {gpu.precision}" if gpu else row["runtime"]
        numbers = ["" if one is None else digits(one) for one in taken]
        rows.append([row["file"], who, str(row["batch"]), f"{row['inputs_per_s']:.4g}", *numbers])
    print_table(titles, rows, left=2)


def ratio_text(row: dict[str, Any]) -> str:
    low, high = row["ratio_ci95"]
    return f"{row['ratio']:.3f} ({low:.3f} to {high:.3f}{', tie' if row['tie'] else ''})"


def _header(document: dict[str, Any]) -> str:
    said = document["environment"]
    cores = ", ".join(map(str, said.affinity))
    runtimes = dict.fromkeys(
        f"{row['runtime']} {row['runtime_version']}" for row in document["results"]
    )
    parts = [
        f"{document['target']}: {said.hardware}",
        *runtimes,
        f"{said.threads} thread{'s' if said.threads > 1 else ''}",
        f"pinned to core {cores}" if cores else "not pinned",
        f"governor {said.governor or 'unknown'}",
        f"load {said.load_before:.2f}" if said.load_before is not None else "load unknown",
        *_gpu_words(said.gpu),
    ]
    return " · ".join(parts)


def _gpu_words(gpu: Gpu | None) -> list[str]:
    """Say what the GPU did at the end of the measurement, as far as its driver does."""
    if gpu is None:
        return []
    pairs = [
        (gpu.sm_clock_mhz, gpu.max_sm_clock_mhz, "MHz"),
        (gpu.power_w, gpu.power_limit_w, "W"),
    ]
    said = [
        f"{now:.0f}{f' of {most:.0f}' if most else ''} {unit}"
        for now, most, unit in pairs
        if now is not None
    ]
    return [*said, *([f"{gpu.temperature_c:.0f} °C"] if gpu.temperature_c is not None else [])]


def _said_differences(document: dict[str, Any]) -> list[str]:
    """Say which differences are real, of files that are next to each other in speed."""
    said: list[str] = []
    order = list(dict.fromkeys(_order(document)))
    for faster, slower in pairwise(order):
        one = next(
            d for d in document["differences"] if (d["faster"], d["slower"]) == (faster, slower)
        )
        low, high = one["ratio_ci95"]
        verdict = "real" if one["real"] else "not real beyond 1 %: a tie"
        said.append(
            f"{slower} takes {one['ratio']:.3f} times as long as {faster} "
            f"({low:.3f} to {high:.3f}): {verdict}."
        )
    return said


def _order(document: dict[str, Any]) -> list[str]:
    """Return the names from the fastest on."""
    slower_than = {row["file"]: 0 for row in document["results"]}
    for one in document["differences"]:
        slower_than[one["slower"]] += 1
    return sorted(slower_than, key=slower_than.__getitem__)


def _said_gate(document: dict[str, Any]) -> list[str]:
    return [
        f"{one.name}: {one.verdict}, {one.ratio:.3f} ({one.low:.3f} to {one.high:.3f}) of its "
        f"baseline, {one.limit:.3f} allowed."
        for one in document.get("gate", {}).get("judgements", ())
    ]


def notes(document: dict[str, Any]) -> list[str]:
    """Return what a reader must know beside the numbers."""
    from hwnas.measurement.measurement import DRIFT_LIMIT

    said: list[str] = []
    if document["kind"] != "measured":
        said.append(f"These latencies are {document['kind']}, not measured.")
    drift = document["reference"]["drift"]
    if document["reference"]["calibrated_ms"]:
        beyond = abs(drift) > DRIFT_LIMIT
        advice = "; over 10 %: `hwnas latency measure --again` calibrates anew" if beyond else ""
        said.append(f"The reference model ran {drift:+.1%} against its calibration{advice}.")
    gpu = document["environment"].gpu
    if gpu is not None and gpu.slowed_by:
        said.append(f"The GPU's clock was held down by: {', '.join(gpu.slowed_by)}.")
    if gpu is not None and gpu.others:
        said.append(f"{gpu.others} other process(es) computed on the GPU.")
    if any(row["on_gpu"] for row in document["results"]):
        said.append("Latencies are of the computing on the GPU; transfers are apart, not in them.")
    if any(row["unsteady"] for row in document["results"]):
        said.append(f"unsteady: the 95 % interval is wider than ±{UNSTEADY:.0%} of the median.")
    if any(row["peak_memory_bytes"] is not None for row in document["results"]):
        said.append("memory: peak of a fresh process less that of one that only loads the runtime.")
    return said


def digits(milliseconds: float) -> str:
    """Four significant digits, never an exponent."""
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.4g}"


def size(count: int | None) -> str:
    """Return bytes in the unit that people read, e.g. ``1.4 MB``; empty where not known."""
    if count is None:
        return ""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
