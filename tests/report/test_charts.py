"""Charts, the drawing of the network and the strip of latencies."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from hwnas.report import formatting
from hwnas.report.charts.collapse import collapse
from hwnas.report.charts.latency_strip import strip
from hwnas.report.charts.result import figures
from hwnas.report.charts.search import search_curves
from hwnas.report.drawings import network_svg as drawing_module
from hwnas.report.drawings.network_svg import drawing
from hwnas.report.html import html
from tests.support.sample_report import (
    fleet_report,
    measured_report,
    measured_result,
    table_report,
    table_result,
)

STYLE = (Path(drawing_module.__file__).parents[1] / "templates" / "page.css").read_text()


def test_plotly_is_inside_once_and_only_where_there_is_a_chart() -> None:
    assert html(fleet_report()).count('id="plotly"') == 1
    assert len(html(fleet_report())) < 3e6
    bare = table_result()
    undecided = [msgspec.structs.replace(b, candidates=()) for b in bare.architecture.blocks]
    network = msgspec.structs.replace(bare.architecture, blocks=tuple(undecided))
    bare = msgspec.structs.replace(bare, architecture=network)
    page = html(msgspec.structs.replace(table_report(), results=(bare,)))
    assert 'id="plotly"' not in page and 'class="chart"' not in page
    assert len(page) < 100_000


def test_charts_exist_only_where_there_is_data() -> None:
    report = measured_report()
    assert figures(report.results[0], report.search, 360).keys() == {
        "accuracy",
        "prediction",
        "search",
        "decisions",
    }
    assert figures(table_result(), (), 0).keys() == {"decisions"}


def test_every_figure_is_one_that_plotly_accepts() -> None:
    import plotly.graph_objects as plotly

    report = measured_report()
    for figure in figures(report.results[0], report.search, 360).values():
        plotly.Figure(figure)


def test_a_candidate_that_was_not_trained_is_not_in_the_accuracy_chart() -> None:
    figure = figures(measured_result(), (), 360)["accuracy"]
    hovers = [text for trace in figure["data"] for text in trace.get("text", ())]
    trained = [r for r in measured_result().candidates if r.validation_accuracy is not None]
    assert len(hovers) == len(trained) == 7
    assert not any("random 3" in text for text in hovers)


def test_steps_that_start_again_are_drawn_one_after_the_other() -> None:
    points = measured_report().search
    figure = search_curves(points + points)
    assert figure is not None
    assert figure["data"][0]["x"] == list(range(2 * len(points)))


def test_each_result_shows_the_search_that_led_to_it() -> None:
    report = fleet_report()
    kept, missed, table = (report.search_of(result) for result in report.results)
    assert {point.target for point in kept} == {"host-cpu"}
    assert {point.target for point in missed} == {"raspberrypi4"}
    assert table == ()


@pytest.mark.parametrize("op", ["conv", "mbconv", "max_pool", "global_pool", "dense_layer", "new"])
def test_every_kind_of_block_has_a_colour(op: str) -> None:
    block = msgspec.structs.replace(measured_result().architecture.blocks[1], op=op)
    [colour] = re.findall(r'class="box (op-\w+)"', drawing([block]))
    assert f".{colour} {{ fill:" in STYLE


@pytest.mark.parametrize(("make", "count"), [(measured_result, 10), (table_result, 24)])
def test_the_drawing_has_a_box_for_every_block_and_says_its_shapes(make, count: int) -> None:
    blocks = make().architecture.blocks
    picture = drawing(blocks)
    assert len(blocks) == count
    assert picture.count('<rect class="box') == count
    assert picture.count('class="box op-identity"') == sum(b.op == "identity" for b in blocks)
    assert f"{blocks[1].in_channels}×{blocks[1].in_size}×{blocks[1].in_size}" in picture  # noqa: RUF001
    assert float(re.findall(r'width="(\d+)"', picture)[0]) <= 1136
    assert drawing(()) == ""


def test_a_slow_call_in_a_hundred_does_not_squeeze_the_picture() -> None:
    result = measured_result()
    assert result.latency is not None and result.budget_ms is not None

    def budget_at(p99_ms: float) -> tuple[float, str]:
        assert result.latency is not None
        latency = msgspec.structs.replace(result.latency, p99_ms=p99_ms)
        drawn = strip(msgspec.structs.replace(result, latency=latency))
        [at] = re.findall(r'class="budget" d="M([0-9.]+) ', drawn)
        return float(at), drawn

    near, drawn = budget_at(1.2 * result.budget_ms)
    assert "p99" in drawn and ">p99" not in drawn
    far, drawn = budget_at(30 * result.budget_ms)
    assert far > near > 100
    assert f">p99 {formatting.ms(30 * result.budget_ms)} ms</text>" in drawn


def test_a_search_of_cells_shows_skips_and_curvature_and_a_chain_does_not() -> None:
    report = measured_report()
    assert collapse(report.search) is None
    points = tuple(
        msgspec.structs.replace(
            point,
            skips=number % 3,
            reduction_skips=1,
            eigenvalue=0.1 * number if number % 5 == 0 else None,
        )
        for number, point in enumerate(report.search)
    )
    figure = collapse(points)
    assert figure is not None
    named = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert named["skips in the normal cell"] == [point.skips for point in points]
    assert named["dominant eigenvalue"] == [point.eigenvalue for point in points]
    assert "nodes not settled" not in named
    assert "Did the search collapse?" in html(msgspec.structs.replace(report, search=points))
    assert "Did the search collapse?" not in html(report)
    # a search without probabilities has one panel
    bare = [msgspec.structs.replace(one, entropy=None, eigenvalue=None) for one in points]
    alone = collapse(bare)
    assert alone is not None and alone["layout"]["yaxis"]["domain"] == [0, 1]
    assert "yaxis3" not in alone["layout"]
