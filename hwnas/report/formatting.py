# ruff: noqa: RUF001 - dashes and minus signs are meant
"""Numbers and verdicts as text, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from hwnas.architecture.size import Size, axes
from hwnas.report.accuracy import Accuracy
from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.schema import Result

KIND_TEXT: dict[str, str] = {
    "measured": "measured",
    "cpu-time": "CPU time, as other programs disturbed the measurement",
    "table": "from a table, not measured",
    "predicted": "predicted, not measured",
    "adapted": "adapted from another device's model, not measured",
    "simulated": "simulated, not measured",
    "emulated": "emulated, not measured",
}


def ms(value_ms: float | None, digits: int = 3) -> str:
    """Return milliseconds with ``digits`` significant digits and no exponent; no unit."""
    if value_ms is None:
        return "–"
    if abs(value_ms) >= 10**digits:
        return f"{value_ms:.0f}"
    if abs(value_ms) < 1e-4:
        return f"{value_ms:.5f}".rstrip("0").rstrip(".")
    return f"{value_ms:#.{digits}g}".rstrip(".")


def decimals(column_ms: Sequence[float | None]) -> int:
    """Return the number of decimals that gives the largest number of a column three significant
    digits."""
    largest_ms = max((abs(value_ms) for value_ms in column_ms if value_ms), default=1.0)
    return max(0, 2 - floor(log10(largest_ms)))


def fixed(value_ms: float | None, places: int) -> str:
    return "–" if value_ms is None else f"{value_ms:.{places}f}"


def interval(bounds_ms: tuple[float, float]) -> str:
    """Return a range of latencies, with enough digits that its ends differ."""
    low, high = distinct(*bounds_ms)
    return low if low == high else f"{low}–{high}"


def distinct(first_ms: float, second_ms: float) -> tuple[str, str]:
    """Return two numbers with the fewest digits, three or more, in which they differ."""
    for digits in (3, 4, 5):
        if ms(first_ms, digits) != ms(second_ms, digits):
            return ms(first_ms, digits), ms(second_ms, digits)
    return ms(first_ms), ms(second_ms)


def accuracy(value: Accuracy | None) -> str:
    return percent(value.shown if value else None)


def percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def signed_percent(share: float) -> str:
    return ("+" if share >= 0 else "−") + f"{abs(100 * share):.1f} %"


def percent_interval(bounds: tuple[float, float]) -> str:
    return f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f} %"


def error(value: float | None) -> str:
    """Return a relative error such as ``3.2e-06``."""
    return "–" if value is None else f"{value:.1e}"


def count(value: int | None) -> str:
    """Return 1234567 as ``1.23 M``: parameters, multiply-accumulates."""
    if value is None:
        return "–"
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if value >= size:
            return (
                f"{value / size:.3g} {unit}"
                if value < 999.5 * size
                else f"{value / size:.0f} {unit}"
            )
    return str(value)


def budget_text(row: CandidateRow) -> str:
    """Return whether a candidate keeps the budget, or why that is unknown."""
    if row.disturbed:
        return "not measured: disturbed"
    return {None: "undecided", True: "kept", False: "exceeded"}[row.keeps_budget]


def size(size_bytes: int) -> str:
    """Return bytes as ``312 kB``, ``4.10 MB`` or ``1.70 GB`` (powers of ten)."""
    if size_bytes >= 10**9:
        return f"{size_bytes / 1e9:.2f} GB"
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 10**6 else f"{size_bytes / 1e3:.0f} kB"


def seconds(duration_s: float) -> str:
    if duration_s < 60:
        return f"{duration_s:.1f} s"
    minutes, rest = divmod(round(duration_s), 60)
    return (
        f"{minutes // 60} h {minutes % 60:02} min"
        if minutes >= 60
        else f"{minutes} min {rest:02} s"
    )


def numbers(result: Result) -> str:
    """Return e.g. ``0.212 ms of 0.250 ms`` for the headline, which also names the kind."""
    if result.latency is None:
        return "no latency" if result.budget_ms is None else f"budget {ms(result.budget_ms)} ms"
    if result.budget_ms is None:
        return f"{ms(result.latency.median_ms)} ms"
    latency, budget = distinct(result.latency.median_ms, result.budget_ms)
    return f"{latency} ms of {budget} ms"


def headline(result: Result) -> str:
    """Return e.g. ``KEPT 0.212 ms of 0.250 ms (measured)``."""
    kind = f" ({KIND_TEXT[result.latency.kind]})" if result.latency else ""
    return f"{result.verdict.upper()} {numbers(result)}{kind}"


def pixels(size: Size) -> str:
    """Return height and width of a feature map."""
    return "×".join(map(str, axes(size)))
