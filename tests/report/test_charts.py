"""Charts, the drawing of the network and the strip plot of latencies."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

import hwnas.report as report_package
from hwnas.architecture.architecture import Block
from hwnas.report import formatting
from hwnas.report.architecture import BlockRow
from hwnas.report.charts.axes import Axis
from hwnas.report.charts.collapse import collapse_chart
from hwnas.report.charts.latency_strip import latency_strip
from hwnas.report.charts.marks import Plane, line
from hwnas.report.charts.result import result_charts
from hwnas.report.charts.search import search_curves
from hwnas.report.drawings.network_svg import network_svg
from hwnas.report.html import html
from hwnas.report.schema import SearchPoint
from tests.support.reporting.sample_report import (
    fleet_report,
    measured_report,
    measured_result,
    table_result,
)

STYLE = (Path(report_package.__file__).parent / "templates" / "page.css").read_text()


def test_a_page_is_small_and_needs_no_script_for_its_charts() -> None:
    page = html(fleet_report())
    assert len(page.encode()) < 300_000
    assert page.count("<script") == 1 and 'class="chart' not in page[page.index("<script") :]
    assert html(measured_report()).count('<svg class="marks"') == 1 + 1 + 5


def test_charts_exist_only_with_data() -> None:
    report = measured_report()
    assert result_charts(report.results[0], report.search, 360).keys() == {
        "accuracy",
        "prediction",
        "search",
        "decisions",
    }
    assert result_charts(table_result(), (), 0).keys() == {"decisions"}


def test_a_mark_is_where_its_axis_says() -> None:
    plane = Plane(Axis(0, 200), Axis(-1, 1))
    assert (plane.left(50), plane.top(0.5)) == ("25.00%", "25.00%")
    drawn = line(plane, [(0, -1), (50, 0.5), (100, None), (150, 1), (200, 1)], "blue")
    assert 'd="M0.00 100.00L25.00 25.00M75.00 0.00L100.00 0.00"' in drawn
    stairs = line(plane, [(0, -1), (50, 1)], "blue", stairs=True)
    assert 'd="M0.00 100.00H25.00V0.00"' in stairs


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.18, 0.29, ["0.18", "0.20", "0.22", "0.24", "0.26", "0.28"]),
        (-0.5, 0.5, ["-0.4", "-0.2", "0.0", "0.2", "0.4"]),
        (0, 400, ["0", "100", "200", "300", "400"]),
        (3e-5, 8e-5, ["0.00003", "0.00004", "0.00005", "0.00006", "0.00007", "0.00008"]),
        (99.98, 100.02, ["99.98", "99.99", "100.00", "100.01", "100.02"]),
    ],
)
def test_ticks_are_round_and_inside_the_range(low: float, high: float, labels: list[str]) -> None:
    ticks = Axis(low, high).ticks()
    assert [text for _, text in ticks] == labels
    assert all(low - 1e-9 <= value <= high + 1e-9 for value, _ in ticks)
    assert [float(text) for _, text in ticks] == pytest.approx([value for value, _ in ticks])


def test_an_axis_has_a_margin_or_begins_at_zero() -> None:
    assert Axis.around([1, None, 3], margin=0.5) == Axis(0, 4)
    assert Axis.around([1, 3], zero=True, margin=0.5) == Axis(0, 4.5)
    assert Axis.around([2, 2]) == Axis(1.9, 2.1)
    assert Axis.around([0]) == Axis(-1, 1)


def test_the_accuracy_chart_has_the_trained_candidates_with_intervals() -> None:
    chart = result_charts(measured_result(), (), 360)["accuracy"]
    hints = re.findall(r"<title>(.*?)</title>", chart, flags=re.S)
    trained = [r for r in measured_result().candidates if r.validation_accuracy is not None]
    assert [hint.split("\n")[0] for hint in hints] == [row.name for row in trained]
    assert not any("random 3" in hint for hint in hints)
    assert chart.count('class="error') == 2 * len(trained)
    assert 'class="grey open"' in chart, "random 2 was not measured"
    assert "latency, ms (measured; open: predicted)" in chart
    [budget] = re.findall(r'class="budget" x1="([0-9.]+)%"', chart)
    slower = [x for x in re.findall(r'<svg x="([0-9.]+)%"', chart) if float(x) > float(budget)]
    assert len(slower) == sum((row.latency_ms or 0) > 0.25 for row in trained) == 1


def test_steps_that_start_again_are_drawn_in_sequence() -> None:
    points = measured_report().search
    assert f"step {2 * len(points) - 1}\n" not in search_curves(points)
    twice = search_curves(points + points)
    assert "step 0\n" in twice and f"step {2 * len(points) - 1}\n" in twice


def test_a_search_that_diverged_has_a_chart_up_to_there() -> None:
    losses = [1.0, 2.0, float("inf"), float("nan")]
    points = [SearchPoint(step=step, phase="search", loss=loss) for step, loss in enumerate(losses)]
    chart = search_curves(points)
    assert chart.count('<path class="line') == 1
    assert "nan" not in chart and "inf" not in chart
    assert search_curves(points[2:]) == ""


def test_the_values_of_at_most_a_hundred_steps_are_under_the_pointer() -> None:
    many = [SearchPoint(step=step, phase="search", loss=1 / (1 + step)) for step in range(799)]
    chart = search_curves(many)
    assert 50 < chart.count('class="reading"') <= 100
    assert "step 0\nloss: 1" in chart
    assert chart.count('<svg class="marks"') == 1, "a panel without values is left out"


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
    assert float(re.findall(r'viewBox="0 0 (\d+) ', picture)[0]) <= 1136
    assert network_svg(()) == ""


def test_a_fixed_piece_is_drawn_without_a_kernel_size() -> None:
    piece = Block("piece", 8, 8, 1, 1, 1, 7, piece="conv 8 k3 p1 / relu")
    picture = network_svg([BlockRow.from_block(piece)])
    assert re.findall(r'class="inside"[^>]*>([^<]*)<', picture) == ["piece"]
    assert "piece k1 s1 e1 8&gt;8 @7 (2 layers)" in picture


def test_a_slow_p99_does_not_squeeze_the_strip_plot() -> None:
    result = measured_result()
    assert result.latency is not None and result.budget_ms is not None

    def budget_at(p99_ms: float) -> tuple[float, str]:
        assert result.latency is not None
        latency = msgspec.structs.replace(result.latency, p99_ms=p99_ms)
        drawn = latency_strip(msgspec.structs.replace(result, latency=latency))
        [at] = re.findall(r'class="budget" x1="([0-9.]+)%"', drawn)
        return float(at), drawn

    near, drawn = budget_at(1.2 * result.budget_ms)
    assert "p99" in drawn and ">p99" not in drawn
    far, drawn = budget_at(30 * result.budget_ms)
    assert far > near > 15
    assert f">p99 {formatting.ms(30 * result.budget_ms)} ms</text>" in drawn


def test_only_a_search_for_cells_shows_skips_and_curvature() -> None:
    report = measured_report()
    assert collapse_chart(report.search) == ""
    points = tuple(
        msgspec.structs.replace(
            point,
            skips=number % 3,
            reduction_skips=1,
            eigenvalue=0.1 * number if number % 5 == 0 else None,
        )
        for number, point in enumerate(report.search)
    )
    chart = collapse_chart(points)
    assert [chart.count(text) for text in ("normal cell: 1", "nodes not fixed")] == [
        sum(point.skips == 1 for point in points),
        0,
    ]
    marked = sum(point.eigenvalue is not None for point in points)
    assert chart.count('class="small blue"') == marked == 9
    assert chart.count('<svg class="marks"') == 3
    assert "Did the search collapse?" in html(msgspec.structs.replace(report, search=points))
    assert "Did the search collapse?" not in html(report)
    # a search without probabilities has one panel
    bare = [msgspec.structs.replace(point, entropy=None, eigenvalue=None) for point in points]
    assert collapse_chart(bare).count('<svg class="marks"') == 1
