"""The result of a benchmark as text: tables, sentences, Markdown and JUnit XML."""

from __future__ import annotations

import shlex
from html import escape
from itertools import pairwise
from xml.etree import ElementTree

from hwnas.benchmarking.gate import change_text, verdict_line
from hwnas.benchmarking.result import UNSTEADY_HALF_WIDTH, BenchmarkResult, FileResult
from hwnas.measurement.disturbance import doubt_line, load_text
from hwnas.measurement.gpu import GpuState
from hwnas.measurement.measurement import DRIFT_LIMIT, RESOLUTION

TITLES = (
    "file",
    "precision",
    "median ms",
    "95 % CI",
    "p90",
    "p99",
    "CV",
    "size",
    "memory",
    "vs. first",
)
"""Of the columns of `_cells`."""

Table = tuple[list[str], list[list[str]]]
"""Titles of columns, and rows."""


def header(result: BenchmarkResult) -> str:
    """Return the device and the conditions of the measurement in one line."""
    environment = result.environment
    cores = ", ".join(map(str, environment.affinity))
    runtimes = dict.fromkeys(f"{row.runtime} {row.runtime_version}" for row in result.results)
    load = environment.load_before
    parts = [
        f"{result.target}: {environment.hardware}",
        *runtimes,
        f"{environment.threads} thread{'s' if environment.threads > 1 else ''}",
        f"pinned to core {cores}" if cores else "not pinned",
        f"governor {environment.governor or 'unknown'}",
        f"load {load:.2f}" if load is not None else "load unknown",
        *_gpu_state(environment.gpu),
    ]
    return " · ".join(parts)


def latency_table(result: BenchmarkResult) -> Table:
    rows = [_cells(row, row is result.results[0]) for row in result.results]
    flags = [
        ", ".join([*["CPU time"] * (row.clock == "cpu"), *["unsteady"] * row.unsteady])
        for row in result.results
    ]
    return [*TITLES, ""], [[*cells, flag] for cells, flag in zip(rows, flags, strict=True)]


def batch_table(result: BenchmarkResult) -> Table | None:
    """Return throughput and transfers, if there is a batch or a GPU."""
    if not any(row.batch > 1 or row.on_gpu for row in result.results):
        return None
    titles = ["file", "provider", "batch", "inputs / s"]
    transfers = any(row.on_gpu for row in result.results)
    if transfers:
        titles += ["wall ms", "copy to ms", "copy back ms"]
    rows: list[list[str]] = []
    for row in result.results:
        gpu = row.on_gpu
        provider = f"{gpu.provider} {gpu.precision}" if gpu else row.runtime
        cells = [row.file, provider, str(row.batch), per_second(row.inputs_per_s)]
        if transfers:
            times_ms = (gpu.wall_ms, gpu.to_gpu_ms, gpu.from_gpu_ms) if gpu else (None,) * 3
            cells += ["" if time_ms is None else milliseconds(time_ms) for time_ms in times_ms]
        rows.append(cells)
    return titles, rows


def operator_tables(result: BenchmarkResult) -> list[tuple[str, Table]]:
    """Return the caption and the table of each file's operators."""
    titles = ["operator", "kind", "provider", "median ms", "share"]
    return [
        (
            f"Operators of {table.file} (profiled apart from the latency)",
            (
                titles,
                [
                    [
                        row.name,
                        row.kind,
                        row.provider,
                        milliseconds(row.median_ms),
                        f"{row.share:.1%}",
                    ]
                    for row in table.rows
                ],
            ),
        )
        for table in result.operators
    ]


def sentences(result: BenchmarkResult) -> list[str]:
    """Return sentences on the significant differences, the verdicts and the conditions."""
    return [*_differences(result), *_verdicts(result), *notes(result)]


def notes(result: BenchmarkResult) -> list[str]:
    """Return remarks on the conditions and limits of the numbers."""
    lines: list[str] = []
    if any(row.clock == "cpu" for row in result.results):
        lines.append(
            "CPU time: other programs disturbed these calls, so their CPU time is counted, not "
            f"wall clock ({load_text(result.environment)})."
        )
    elif result.kind != "measured":
        lines.append(f"These latencies are {result.kind}, not measured.")
    if left_out := sum(row.disturbed_rounds for row in result.results):
        total = left_out + sum(row.rounds for row in result.results)
        lines.append(
            f"{left_out} of {total} rounds do not count: other programs took the core, or the "
            f"reference model was slower than in the others ({load_text(result.environment)})."
        )
    if line := doubt_line(result.measurements):
        lines.append(line)
    drift = result.reference.drift
    if result.reference.calibrated_ms:
        command = shlex.join(["hwnas", "latency", "measure", "--target", result.target, "--again"])
        advice = f"; run `{command}` to calibrate again"
        lines.append(
            f"The reference model's latency differs by {drift:+.1%} from its calibration"
            f"{advice if abs(drift) > DRIFT_LIMIT else ''}."
        )
    gpu = result.environment.gpu
    if gpu is not None and gpu.slowed_by:
        lines.append(f"The GPU's clock was throttled by: {', '.join(gpu.slowed_by)}.")
    if gpu is not None and gpu.others:
        lines.append(f"{gpu.others} other process(es) used the GPU.")
    if any(row.on_gpu for row in result.results):
        lines.append("Latencies are of the computation on the GPU, without copies to and from it.")
    lines += [
        f"{row.file}: the latency of {row.batch} inputs at once."
        for row in result.results
        if row.batch > 1
    ]
    shapes = {row.file: _shapes_text(row) for row in result.results}
    if len({*shapes.values(), ""}) > 2 or any(len(row.input_shapes) > 1 for row in result.results):
        lines += [f"{file}: measured with {text}." for file, text in shapes.items() if text]
    if any(row.unsteady for row in result.results):
        width = f"±{UNSTEADY_HALF_WIDTH:.0%}"
        lines.append(f"unsteady: the 95 % interval is wider than {width} of the median.")
    if any(row.peak_memory_bytes is not None for row in result.results):
        lines.append(
            "memory: peak of a fresh process, less that of one that only loads the runtime."
        )
    return lines


def markdown(result: BenchmarkResult) -> str:
    """Return the table of latencies for a comment or a CI summary."""
    titles = [*TITLES, *(["vs. baseline"] if result.gate else [])]
    lines = [
        f"**{result.target}**: {result.title}",
        "",
        f"| {' | '.join(titles)} |",
        f"| --- | --- |{' ---: |' * (len(titles) - 2)}",
    ]
    for row in result.results:
        file, *cells = _cells(row, row is result.results[0])
        if judgement := result.judgement(row):
            cells.append(f"{judgement.verdict}: {change_text(judgement)}")
        if row.clock == "cpu":
            cells[1] += " CPU time"
        cells.insert(0, f"<code>{escape(file).replace('|', '&#124;')}</code>")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *notes(result), ""])


def junit(result: BenchmarkResult) -> bytes:
    """Return JUnit XML: a test case for each file, failed if slower, an error if undecided."""
    verdicts = [judgement.verdict for judgement in result.gate.judgements] if result.gate else []
    suite = ElementTree.Element(
        "testsuite",
        name=f"hwnas benchmark {result.target}",
        tests=str(len(result.results)),
        failures=str(verdicts.count("regressed")),
        errors=str(verdicts.count("undecided")),
    )
    for row in result.results:
        time_s = f"{row.median_ms / 1e3:.9f}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=result.target, name=row.file, time=time_s
        )
        judgement = result.judgement(row)
        if judgement is not None and judgement.verdict in ("regressed", "undecided"):
            kind = "failure" if judgement.verdict == "regressed" else "error"
            message = verdict_line(judgement)
            ElementTree.SubElement(case, kind, message=message, type=judgement.verdict)
    return ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True) + b"\n"


def milliseconds(value_ms: float) -> str:
    """Return four significant digits, never an exponent."""
    return f"{value_ms:.3f}" if value_ms < 10 else f"{value_ms:.4g}"


def per_second(rate: float) -> str:
    """Return four significant digits, never an exponent."""
    return f"{rate:.4g}" if rate < 1000 else f"{rate:,.0f}"


def size(size_bytes: int | None) -> str:
    """Return e.g. ``1.4 MB``; empty if unknown."""
    if size_bytes is None:
        return ""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.0f} kB"


def _cells(row: FileResult, first: bool) -> list[str]:
    low_ms, high_ms = row.ci95_ms
    low, high = row.ratio_ci95
    return [
        row.file,
        row.precision,
        milliseconds(row.median_ms),
        f"{milliseconds(low_ms)} to {milliseconds(high_ms)}",
        milliseconds(row.p90_ms),
        milliseconds(row.p99_ms),
        f"{row.cv:.1%}",
        size(row.size_bytes),
        size(row.peak_memory_bytes),
        "1" if first else f"{row.ratio:.3f} ({low:.3f} to {high:.3f}{', tie' if row.tie else ''})",
    ]


def _shapes_text(row: FileResult) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in row.input_shapes.items())


def _gpu_state(gpu: GpuState | None) -> list[str]:
    """Return clock, power and temperature at the end of the measurement, as far as known."""
    if gpu is None:
        return []
    values = [
        (gpu.sm_clock_mhz, gpu.max_sm_clock_mhz, "MHz"),
        (gpu.power_w, gpu.power_limit_w, "W"),
        (gpu.temperature_c, None, "°C"),
    ]
    return [
        f"{value:.0f}{f' of {limit:.0f}' if limit else ''} {unit}"
        for value, limit, unit in values
        if value is not None
    ]


def _differences(result: BenchmarkResult) -> list[str]:
    """Compare files that are next to each other in speed."""
    pairs = {(item.faster, item.slower): item for item in result.differences}
    lines: list[str] = []
    for faster, slower in pairwise(_fastest_first(result)):
        difference = pairs[faster, slower]
        low, high = difference.ratio_ci95
        tie = f"a tie (equal within {RESOLUTION:.0%} is possible)"
        verdict = "a real difference" if difference.real else tie
        lines.append(
            f"{slower} takes {difference.ratio:.3f} times as long as {faster} "
            f"({low:.3f} to {high:.3f}): {verdict}."
        )
    return lines


def _fastest_first(result: BenchmarkResult) -> list[str]:
    faster_files = dict.fromkeys((row.file for row in result.results), 0)
    for difference in result.differences:
        faster_files[difference.slower] += 1
    return sorted(faster_files, key=faster_files.__getitem__)


def _verdicts(result: BenchmarkResult) -> list[str]:
    if result.gate is None:
        return []
    return [
        f"{item.name}: {item.verdict}, {item.ratio:.3f} ({item.low:.3f} to {item.high:.3f}) times "
        f"its baseline, {item.limit:.3f} allowed."
        for item in result.gate.judgements
    ]
