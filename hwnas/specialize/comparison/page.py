"""A comparison as one self-contained HTML page."""

from __future__ import annotations

from itertools import cycle

from markupsafe import Markup

from hwnas import __version__
from hwnas.measurement.measurement import local_time
from hwnas.report.charts.axes import Axis
from hwnas.report.charts.marks import Plane, across, budget, hint, key, symbol, upright
from hwnas.report.charts.plot import plot
from hwnas.report.html import environment
from hwnas.specialize.comparison.compare import Comparison, Row
from hwnas.specialize.comparison.text import sentences, table

STYLES = ("circle blue", "square orange", "triangle green", "diamond grey")
"""Symbol and colour of each result; they repeat for more results."""


def page(comparison: Comparison) -> str:
    """Return the page."""
    template = environment(for_html=True).get_template("comparison.html.j2")
    return template.render(
        comparison=comparison,
        table=table(comparison),
        sentences=sentences(comparison),
        chart=Markup(accuracy_against_latency(comparison)),
        created=local_time(),
        version=__version__,
    )


def accuracy_against_latency(comparison: Comparison) -> str:
    """Plot the accuracy of the delivered files over their latency, with 95 % intervals.

    Empty where latencies or accuracies are not comparable.
    """
    pairs, rows = comparison.pairs, comparison.rows
    if any(pair.latency is None or _other_data(pair.first, pair.second, rows) for pair in pairs):
        return ""
    latencies_ms = [end for row in rows for end in _latency_ends(row)]
    budgets_ms = {row.budget_ms for row in rows if row.budget_ms is not None}
    scores = [100 * end for row in rows for end in row.score_ci95 or (row.score or 0.0,)]
    plane = Plane(Axis.around([*latencies_ms, *budgets_ms]), Axis.around(scores))
    marks = [mark for budget_ms in budgets_ms for mark in budget(plane, budget_ms)]
    legend: list[str] = []
    for row, style in zip(rows, cycle(STYLES), strict=False):
        name, css = style.split()
        marks.append(hint(row.run, _marks(plane, row, name, css)))
        legend.append(key(name, css, row.run))
    return plot(
        plane,
        marks,
        x_title=f"latency, ms ({rows[0].kind})",
        y_title=f"test {rows[0].score_name}, %",
        height_px=300,
        legend=legend,
    )


def _marks(plane: Plane, row: Row, name: str, css: str) -> list[str]:
    median_ms, score = row.median_ms or 0.0, 100 * (row.score or 0.0)
    low, high = row.score_ci95 or (row.score or 0.0,) * 2
    return [
        across(plane, _latency_ends(row), score, f"error {css}"),
        upright(plane, median_ms, (100 * low, 100 * high), f"error {css}"),
        symbol(plane, median_ms, score, name, css),
    ]


def _latency_ends(row: Row) -> tuple[float, float]:
    return row.ci95_ms or (row.median_ms or 0.0, row.median_ms or 0.0)


def _other_data(first: str, second: str, rows: tuple[Row, ...]) -> bool:
    by_name = {row.run: row for row in rows}
    a, b = by_name[first], by_name[second]
    comparable = a.data_digest == b.data_digest and a.score_name == b.score_name
    return not comparable or a.score is None or b.score is None
