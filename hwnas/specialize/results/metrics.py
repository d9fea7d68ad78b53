"""The result of a run as metrics for an experiment tracker."""

from __future__ import annotations

from hwnas.report.schema import Result


def metrics(result: Result) -> dict[str, float]:
    """Return the numbers of a result by name; a latency has its kind in its name, such as
    ``result/measured_ms`` or ``result/predicted_ms``."""
    numbers: dict[str, float | None] = {
        "budget_ms": result.budget_ms,
        "params": result.architecture.params,
        "macs": result.architecture.macs,
    }
    if result.verdict != "not measured":
        numbers["kept"] = float(result.verdict == "kept")
    if result.latency is not None:
        numbers[f"{result.latency.kind}_ms"] = result.latency.median_ms
    if result.score is not None:
        numbers[result.score_name] = result.score.shown
        numbers[f"validation_{result.score_name}"] = result.score.validation
    if result.artifacts:
        numbers["size_bytes"] = result.artifacts[0].size_bytes
    return {f"result/{name}": float(value) for name, value in numbers.items() if value is not None}
