"""Charts, the drawing of the network and the strip plot of latencies."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import hwnas.report as report_package
from hwnas.report import formatting
from hwnas.report.charts.collapse import collapse_chart
from hwnas.report.charts.latency_strip import latency_strip
from hwnas.report.charts.result import result_charts
from hwnas.report.charts.search import search_curves
from hwnas.report.drawings.network_svg import network_svg
from hwnas.report.html import html
from tests.support.sample_report import (
    fleet_report,
    measured_report,
    measured_result,
    table_report,
    table_result,
)

STYLE = (Path(report_package.__file__).parent / "templates" / "page.css").read_text()


def test_plotly_is_embedded_once_and_only_with_a_chart() -> None:
    assert html(fleet_report()).count('id="plotly"') == 1
    assert len(html(fleet_report())) < 3e6
    bare = table_result()
    undecided = [msgspec.structs.replace(b, candidates=()) for b in bare.architecture.blocks]
    network = msgspec.structs.replace(bare.architecture, blocks=tuple(undecided))
    bare = msgspec.structs.replace(bare, architecture=network)
    page = html(msgspec.structs.replace(table_report(), results=(bare,)))
    assert 'id="plotly"' not in page and 'class="chart"' not in page
    assert len(page) < 100_000


def test_charts_exist_only_with_data() -> None:
    report = measured_report()
    assert result_charts(report.results[0], report.search, 360).keys() == {
        "accuracy",
        "prediction",
        "search",
        "decisions",
    }
    assert result_charts(table_result(), (), 0).keys() == {"decisions"}


def test_plotly_accepts_every_chart() -> None:
    import plotly.graph_objects as plotly

    report = measured_report()
    for figure in result_charts(report.results[0], report.search, 360).values():
        drawn = plotly.Figure(figure)  # raises ValueError for a property that does not exist
        assert len(drawn.to_dict()["data"]) == len(figure["data"]) > 0


def test_an_untrained_candidate_is_not_in_the_accuracy_chart() -> None:
    figure = result_charts(measured_result(), (), 360)["accuracy"]
    hovers = [text for trace in figure["data"] for text in trace.get("text", ())]
    trained = [r for r in measured_result().candidates if r.validation_accuracy is not None]
    assert len(hovers) == len(trained) == 7
    assert not any("random 3" in text for text in hovers)


def test_steps_that_start_again_are_drawn_in_sequence() -> None:
    points = measured_report().search
    figure = search_curves(points + points)
    assert figure is not None
    assert figure["data"][0]["x"] == list(range(2 * len(points)))


def test_each_result_shows_the_search_that_led_to_it() -> None:
    report = fleet_report()
    first, missed, table = (report.search_of(result) for result in report.results)
    assert {point.target for point in first} == {"host-cpu"}
    assert {point.target for point in missed} == {"raspberrypi4"}
    assert table == ()


@pytest.mark.parametrize("op", ["conv", "mbconv", "max_pool", "global_pool", "dense_layer", "new"])
def test_every_kind_of_block_has_a_colour(op: str) -> None:
    block = msgspec.structs.replace(measured_result().architecture.blocks[1], op=op)
    [colour] = re.findall(r'class="box (op-\w+)"', network_svg([block]))
    assert f".{colour} {{ fill:" in STYLE


@pytest.mark.parametrize(("make", "count"), [(measured_result, 10), (table_result, 24)])
def test_the_drawing_has_a_box_and_shapes_for_every_block(make, count: int) -> None:
    blocks = make().architecture.blocks
    picture = network_svg(blocks)
    assert len(blocks) == count
    assert picture.count('<rect class="box') == count
    assert picture.count('class="box op-identity"') == sum(b.op == "identity" for b in blocks)
    assert f"{blocks[1].in_channels}×{blocks[1].in_size}×{blocks[1].in_size}" in picture  # noqa: RUF001
    assert float(re.findall(r'width="(\d+)"', picture)[0]) <= 1136
    assert network_svg(()) == ""


def test_a_slow_p99_does_not_squeeze_the_strip_plot() -> None:
    result = measured_result()
    assert result.latency is not None and result.budget_ms is not None

    def budget_at(p99_ms: float) -> tuple[float, str]:
        assert result.latency is not None
        latency = msgspec.structs.replace(result.latency, p99_ms=p99_ms)
        drawn = latency_strip(msgspec.structs.replace(result, latency=latency))
        [at] = re.findall(r'class="budget" d="M([0-9.]+) ', drawn)
        return float(at), drawn

    near, drawn = budget_at(1.2 * result.budget_ms)
    assert "p99" in drawn and ">p99" not in drawn
    far, drawn = budget_at(30 * result.budget_ms)
    assert far > near > 100
    assert f">p99 {formatting.ms(30 * result.budget_ms)} ms</text>" in drawn


def test_only_a_search_for_cells_shows_skips_and_curvature() -> None:
    report = measured_report()
    assert collapse_chart(report.search) is None
    points = tuple(
        msgspec.structs.replace(
            point,
            skips=number % 3,
            reduction_skips=1,
            eigenvalue=0.1 * number if number % 5 == 0 else None,
        )
        for number, point in enumerate(report.search)
    )
    figure = collapse_chart(points)
    assert figure is not None
    named = {trace["name"]: trace["y"] for trace in figure["data"]}
    assert named["skips in the normal cell"] == [point.skips for point in points]
    assert named["dominant eigenvalue"] == [point.eigenvalue for point in points]
    assert "nodes not fixed" not in named
    assert "Did the search collapse?" in html(msgspec.structs.replace(report, search=points))
    assert "Did the search collapse?" not in html(report)
    # a search without probabilities has one panel
    bare = [msgspec.structs.replace(point, entropy=None, eigenvalue=None) for point in points]
    alone = collapse_chart(bare)
    assert alone is not None and alone["layout"]["yaxis"]["domain"] == [0, 1]
    assert "yaxis3" not in alone["layout"]
