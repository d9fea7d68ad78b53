# ruff: noqa: RUF001 - dashes and minus signs are meant
"""A comparison as text: the table's cells and sentences, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.report import formatting
from hwnas.specialize.comparison.compare import Comparison, Pair, Row, ScoreDifference


def table(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the compared quantities, and the text of each result."""
    lines: dict[str, list[str]] = {}
    for place, row in enumerate(comparison.rows):
        for name, text in _lines(row):
            lines.setdefault(name, ["–"] * len(comparison.rows))[place] = text
    return list(lines.items())


def _lines(row: Row) -> Iterator[tuple[str, str]]:
    yield "target", row.target
    yield "runtime", f"{row.runtime} {row.precision}"
    yield "budget", "–" if row.budget_ms is None else f"{formatting.ms(row.budget_ms)} ms"
    yield "verdict", row.verdict
    latency = "–" if row.median_ms is None else f"{formatting.ms(row.median_ms)} ms {row.kind}"
    yield "latency", latency
    yield "latency, 95 % interval", f"{formatting.interval(row.ci95_ms)} ms" if row.ci95_ms else "–"
    if row.together_ms is not None:
        yield "side by side", f"{formatting.ms(row.together_ms)} ms {row.together_kind}"
    yield row.score_name, formatting.percent(row.score)
    yield (
        f"{row.score_name}, 95 % interval",
        formatting.percent_interval(row.score_ci95) if row.score_ci95 else "–",
    )
    yield "test images", str(row.test_images or "–")
    yield "parameters", formatting.count(row.params)
    yield "MACs", formatting.count(row.macs)
    yield "input", "×".join(map(str, row.input_shape))
    sizes = [f"{name} {formatting.size(size)}" for name, size in row.size_bytes.items()]
    yield "files", "\n".join(sizes) or "–"
    yield "network", row.digest[:12]
    yield "time of the run", formatting.seconds(row.seconds)
    yield "data", row.data or "–"


def sentences(comparison: Comparison) -> list[str]:
    """Return sentences on each pair of results."""
    return [line for pair in comparison.pairs for line in _pair(pair)]


def _pair(pair: Pair) -> Iterator[str]:
    if pair.latency is not None:
        ratio = f"{pair.second} takes {pair.latency.ratio:.3f} times as long as {pair.first}"
        if pair.latency.ci95 is None:
            yield f"{ratio}, by latencies of separate runs; --measure measures them side by side."
        else:
            low, high = pair.latency.ci95
            verdict = "a tie" if pair.latency.tie else "a real difference"
            yield f"{ratio} ({low:.3f} to {high:.3f}), measured side by side: {verdict}."
    if pair.score is not None:
        yield _score(pair, pair.score)
    for note in (pair.latency_note, pair.score_note):
        if note:
            yield f"{pair.first}, {pair.second}: {note}."


def _score(pair: Pair, score: ScoreDifference) -> str:
    points, (low, high) = 100 * score.difference, (100 * bound for bound in score.ci95)
    verdict = "a real difference" if score.real else "no difference is shown"
    return (
        f"Of {score.images} test images, {pair.second} alone is right on {score.only_second} and "
        f"{pair.first} alone on {score.only_first}: {_signed(points)} points (95 % interval "
        f"{_signed(low)} to {_signed(high)}, McNemar's p {_p_value(score.p_value)}): {verdict}."
    )


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def _p_value(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
