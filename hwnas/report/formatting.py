# ruff: noqa: RUF001 - dashes and minus signs are meant
"""How numbers and verdicts are said, the same in the terminal, in Markdown and in HTML."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from statistics import NormalDist

from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.report.report import Result
from hwnas.report.schema import ArchitectureSummary, CandidateRow, Latency, wilson

KIND_WORDS: dict[str, str] = {
    "measured": "measured",
    "table": "from a table, not measured",
    "predicted": "predicted, not measured",
    "adapted": "adapted from another device's, not measured",
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


def places(column_ms: Sequence[float | None]) -> int:
    """Return the decimals with which the largest of a column has three significant digits."""
    largest_ms = max((abs(value_ms) for value_ms in column_ms if value_ms), default=1.0)
    return max(0, 2 - floor(log10(largest_ms)))


def fixed(value_ms: float | None, decimals: int) -> str:
    return "–" if value_ms is None else f"{value_ms:.{decimals}f}"


def interval(bounds_ms: tuple[float, float]) -> str:
    """Return two latencies as a range with enough digits that the two ends differ."""
    low, high = distinct(*bounds_ms)
    return low if low == high else f"{low}–{high}"


def distinct(one_ms: float, other_ms: float) -> tuple[str, str]:
    """Return both with the fewest digits, from three on, that tell them apart."""
    for digits in (3, 4, 5):
        if ms(one_ms, digits) != ms(other_ms, digits):
            return ms(one_ms, digits), ms(other_ms, digits)
    return ms(one_ms), ms(other_ms)


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


def size(size_bytes: int) -> str:
    """Return bytes as ``312 kB`` or ``4.10 MB`` (powers of ten)."""
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
    """Return ``0.212 ms of 0.250 ms`` for the headline; the kind is said beside it."""
    if result.latency is None:
        return "no latency" if result.budget_ms is None else f"budget {ms(result.budget_ms)} ms"
    if result.budget_ms is None:
        return f"{ms(result.latency.median_ms)} ms"
    found, budget = distinct(result.latency.median_ms, result.budget_ms)
    return f"{found} ms of {budget} ms"


def headline(result: Result) -> str:
    """Return e.g. ``KEPT 0.212 ms of 0.250 ms (measured)``."""
    kind = f" ({KIND_WORDS[result.latency.kind]})" if result.latency else ""
    return f"{result.verdict.upper()} {numbers(result)}{kind}"


def shown_accuracy(result: Result) -> float | None:
    """Return the test accuracy of the delivered file, or of torch where the file was not run."""
    accuracy = result.accuracy
    if accuracy is None:
        return None
    return accuracy.torch if accuracy.artifact is None else accuracy.artifact


def blocks_ms(network: ArchitectureSummary) -> float | None:
    """Return the sum of the blocks' predicted latencies, if every block has one."""
    costs = [block.predicted_ms for block in network.blocks]
    known = [cost_ms for cost_ms in costs if cost_ms is not None]
    return sum(known) if len(known) == len(costs) else None


def certainty(result: Result) -> list[str]:
    """Say in sentences how sure the verdict is; each latency with its kind."""
    latency = result.latency
    if latency is None:
        return ["There is no latency: nothing was measured, and no table or model was asked."]
    said = [*_interval_words(latency, result.budget_ms), *_chance_words(latency, result.budget_ms)]
    if latency.p90_ms is not None and latency.p99_ms is not None:
        said.append(
            f"One call in ten took longer than {ms(latency.p90_ms)} ms, one in a hundred longer "
            f"than {ms(latency.p99_ms)} ms ({latency.kind})."
        )
    return said + _drift_words(latency)


def surprise(latency: Latency) -> str:
    """Compare the prediction with what the device answered; empty if there is only one of them."""
    if latency.predicted_ms is None or latency.kind in ("table", "predicted"):
        return ""
    off = latency.median_ms / latency.predicted_ms - 1
    std_ms = latency.predicted_std_ms
    spread = f" ± {ms(std_ms, 2)}" if std_ms else ""
    said = (
        f"{ms(latency.predicted_ms)}{spread} ms predicted, {ms(latency.median_ms)} ms "
        f"{latency.kind}: {signed_percent(off)}"
    )
    if not std_ms:
        return f"{said}."
    steps = abs(latency.median_ms - latency.predicted_ms) / std_ms
    return f"{said}, {steps:.1f} standard deviations of the prediction away."


def against_baselines(result: Result, valid_images: int) -> str:
    """Compare the chosen network with the best baseline within the budget, by intervals."""
    chosen = next((row for row in result.candidates if row.chosen), None)
    rivals = [row for row in result.candidates if row.origin != "search" and row.keeps_budget]
    rivals = [row for row in rivals if row.validation_accuracy is not None and not row.chosen]
    if chosen is None or chosen.validation_accuracy is None or not rivals or not valid_images:
        return ""
    best = max(rivals, key=_validation)
    low, high = wilson(_validation(chosen), valid_images)
    rival_low, rival_high = wilson(_validation(best), valid_images)
    said = (
        f"Best baseline within the budget: {best.name} with {percent(_validation(best))} "
        f"validation accuracy (95 % {percent_interval((rival_low, rival_high))}); chosen: "
        f"{percent(_validation(chosen))} ({percent_interval((low, high))}). "
    )
    if low > rival_high:
        return said + "The intervals are apart: the chosen network is better."
    if high < rival_low:
        return said + "The intervals are apart: the baseline is better."
    return said + f"The intervals overlap: on {valid_images} images this is a tie."


def _validation(row: CandidateRow) -> float:
    return row.validation_accuracy or 0.0


def _interval_words(latency: Latency, budget_ms: float | None) -> list[str]:
    if latency.ci95_ms is None:
        return []
    low_ms, high_ms = latency.ci95_ms
    said = (
        f"95 % interval of the median: {interval(latency.ci95_ms)} ms ({latency.kind}, "
        f"{latency.samples} calls in {latency.rounds} rounds)"
    )
    if budget_ms is None:
        return [f"{said}."]
    if high_ms <= budget_ms:
        return [
            f"{said}, all of it within the budget; the median leaves "
            f"{percent(1 - latency.median_ms / budget_ms)} of the budget unused."
        ]
    if low_ms > budget_ms:
        return [f"{said}, all of it over the budget."]
    return [f"{said}. The budget lies inside it: another run may decide otherwise."]


def _chance_words(latency: Latency, budget_ms: float | None) -> list[str]:
    if latency.kind not in ("table", "predicted"):
        return []
    said = f"No device was asked: {ms(latency.median_ms)} ms is {KIND_WORDS[latency.kind]}"
    said += f" ({latency.source})." if latency.source else "."
    std_ms = latency.predicted_std_ms
    if not std_ms or budget_ms is None:
        return [said]
    chance = NormalDist(latency.median_ms, std_ms).cdf(budget_ms)
    shown = "over 99 %" if chance > 0.99 else "under 1 %" if chance < 0.01 else percent(chance, 0)
    return [
        said,
        f"By the model's own standard deviation of {ms(std_ms, 2)} ms (predicted) the "
        f"chance that the device keeps the budget is {shown}.",
    ]


def _drift_words(latency: Latency) -> list[str]:
    if latency.reference_drift is None or latency.raw_median_ms is None:
        return []
    drift = latency.reference_drift
    way = "slower" if drift >= 0 else "faster"
    said = [
        f"In this run the reference model was {percent(abs(drift))} {way} than at its calibration. "
        f"The clock gave {ms(latency.raw_median_ms)} ms ({latency.kind}, raw); the verdict uses "
        f"the {latency.judged} number."
    ]
    if abs(drift) > DRIFT_LIMIT:
        said.append(
            f"That is more than {percent(DRIFT_LIMIT, 0)}: the machine is not as it was at its "
            "calibration. A new calibration (hwnas latency measure --again) settles it."
        )
    return said
