"""Sentences of the report: how certain a verdict is, and how close the prediction was."""

from __future__ import annotations

from statistics import NormalDist

from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.measurement.statistics import wilson_interval
from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.formatting import (
    KIND_TEXT,
    interval,
    ms,
    percent,
    percent_interval,
    signed_percent,
)
from hwnas.report.latency import Latency
from hwnas.report.schema import Result


def verdict_sentences(result: Result) -> list[str]:
    """Return how certain the verdict is; each latency with its kind."""
    latency = result.latency
    if latency is None:
        return ["There is no latency: nothing was measured, and no latency model predicted it."]
    sentences = [*_interval(latency, result.budget_ms), *_probability(latency, result.budget_ms)]
    if latency.p90_ms is not None and latency.p99_ms is not None:
        sentences.append(
            f"One call in ten took longer than {ms(latency.p90_ms)} ms, one in a hundred longer "
            f"than {ms(latency.p99_ms)} ms ({latency.kind})."
        )
    return sentences + _drift(latency)


def prediction_error(latency: Latency) -> str:
    """Compare the prediction with the measured latency; empty if there is only one of them."""
    if latency.predicted_ms is None or latency.kind in ("table", "predicted"):
        return ""
    error = signed_percent(latency.median_ms / latency.predicted_ms - 1)
    std_ms = latency.predicted_std_ms
    plus_minus = f" ± {ms(std_ms, 2)}" if std_ms else ""
    text = (
        f"Predicted {ms(latency.predicted_ms)}{plus_minus} ms, {latency.kind} "
        f"{ms(latency.median_ms)} ms: {error}"
    )
    if not std_ms:
        return f"{text}."
    deviations = abs(latency.median_ms - latency.predicted_ms) / std_ms
    return f"{text}, {deviations:.1f} standard deviations of the prediction."


def baseline_comparison(result: Result, valid_images: int) -> str:
    """Compare the chosen network with the best baseline within the budget, by intervals."""
    chosen = next((row for row in result.candidates if row.chosen), None)
    baselines = [
        row
        for row in result.candidates
        if row.origin != "search"
        and row.keeps_budget
        and row.validation_score is not None
        and not row.chosen
    ]
    if chosen is None or chosen.validation_score is None or not baselines or not valid_images:
        return ""
    best = max(baselines, key=_validation)
    low, high = wilson_interval(_validation(chosen), valid_images)
    best_low, best_high = wilson_interval(_validation(best), valid_images)
    text = (
        f"Validation {result.score_name} of the best baseline within the budget, {best.name}: "
        f"{percent(_validation(best))} (95 % interval {percent_interval((best_low, best_high))}); "
        f"of the chosen network: {percent(_validation(chosen))} ({percent_interval((low, high))}). "
    )
    if low > best_high:
        return text + "The intervals do not overlap: the chosen network is better."
    if high < best_low:
        return text + "The intervals do not overlap: the baseline is better."
    return text + f"The intervals overlap: with {valid_images} images this is a tie."


def accuracy_sentence(result: Result) -> str:
    """Return e.g. ``accuracy 97.2 % (95 % interval 95.0-98.5 %) on 360 test images``."""
    accuracy = result.score
    if accuracy is None:
        return f"{result.score_name} unknown"
    bounds = f" (95 % interval {percent_interval(accuracy.ci95)})" if accuracy.ci95 else ""
    which = (
        "the delivered file" if accuracy.artifact is not None else "PyTorch; the file was not run"
    )
    images = f"{accuracy.test_images} test images"
    others = ""
    if accuracy.top5 is not None:
        others += f", top-5 {percent(accuracy.top5)}"
    if accuracy.balanced is not None:
        others += f", mean over classes {percent(accuracy.balanced)}"
    if len(accuracy.classes) > 1 and accuracy.classes[0].accuracy < accuracy.classes[-1].accuracy:
        lowest, highest = accuracy.classes[0], accuracy.classes[-1]
        others += (
            f", from {percent(lowest.accuracy)} for {lowest.name!r} to {percent(highest.accuracy)} "
            f"for {highest.name!r}"
        )
    return f"{_scored(result)} {percent(accuracy.shown)}{bounds}{others} on {images} ({which})"


def _scored(result: Result) -> str:
    return "accuracy" if result.agreement is None else "agreement with the original network"


def _validation(row: CandidateRow) -> float:
    return row.validation_score or 0.0


def _interval(latency: Latency, budget_ms: float | None) -> list[str]:
    if latency.ci95_ms is None:
        return []
    low_ms, high_ms = latency.ci95_ms
    text = (
        f"95 % confidence interval of the median: {interval(latency.ci95_ms)} ms ({latency.kind}, "
        f"{latency.samples} calls in {latency.rounds} rounds)"
    )
    if budget_ms is None:
        return [f"{text}."]
    if high_ms <= budget_ms:
        margin = percent(1 - latency.median_ms / budget_ms)
        return [f"{text}, entirely within the budget; the median is {margin} below it."]
    if low_ms > budget_ms:
        return [f"{text}, entirely over the budget."]
    return [f"{text}. The budget lies inside it, so another run may reach the other verdict."]


def _probability(latency: Latency, budget_ms: float | None) -> list[str]:
    if latency.kind not in ("table", "predicted"):
        return []
    source = f" ({latency.source})" if latency.source else ""
    sentences = [f"{ms(latency.median_ms)} ms is {KIND_TEXT[latency.kind]}{source}."]
    std_ms = latency.predicted_std_ms
    if std_ms and budget_ms is not None:
        probability = NormalDist(latency.median_ms, std_ms).cdf(budget_ms)
        shown = percent(probability, 0)
        if not 0.01 <= probability <= 0.99:
            shown = "over 99 %" if probability > 0.5 else "under 1 %"
        sentences.append(
            f"With the model's standard deviation of {ms(std_ms, 2)} ms (predicted), the "
            f"probability that the device keeps the budget is {shown}."
        )
    return sentences


def _drift(latency: Latency) -> list[str]:
    drift = latency.reference_drift
    if drift is None or latency.raw_median_ms is None:
        return []
    direction = "slower" if drift >= 0 else "faster"
    sentences = [
        f"In this run the reference model was {percent(abs(drift))} {direction} than at its "
        f"calibration. The raw median is {ms(latency.raw_median_ms)} ms ({latency.kind}); the "
        f"verdict uses the {latency.judged} median."
    ]
    if abs(drift) > DRIFT_LIMIT:
        sentences.append(
            f"A change of more than {percent(DRIFT_LIMIT, 0)} means that the machine is in another "
            "state than at its calibration."
        )
    return sentences
