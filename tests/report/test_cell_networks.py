"""Networks of cells in the report: which block comes from which decision, and the pictures."""

from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from hwnas.architecture.architecture import Block, Genotype
from hwnas.latency_models.model import LatencyModel
from hwnas.report.builders import architecture_of
from hwnas.report.charts.search import MOST_NAMES, decisions
from hwnas.report.drawings.cell_svg import cell_drawings, cell_legend
from hwnas.report.drawings.network_svg import drawing, legend
from hwnas.report.html import html, markdown
from hwnas.report.report import Report
from hwnas.report.schema import CellRow, EdgeRow
from hwnas.spaces.cells.genotype import published_genotype
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.int8 import in_precision
from hwnas.specialize.results.rows import block_rows, cell_rows
from hwnas.specialize.steps.screening import Probabilities
from tests.support.sample_report import measured_report

SPACE = cell_space((3, 32, 32), 10, channels=8, layers=5)
MODEL = cast(LatencyModel, SimpleNamespace(block_ms=lambda block: block.macs / 1e6))
PROBABILITIES = Probabilities(
    tuple(
        tuple((k + 1) / sum(range(1, len(one.candidates) + 1)) for k in range(len(one.candidates)))
        for one in SPACE.decisions
    ),
    tuple(tuple(float(k) for k in range(len(one.candidates))) for one in SPACE.decisions),
)
NETWORKS = [SPACE.usual, *(SPACE.random(Random(seed)) for seed in range(3))]


def report_of(genotype: Genotype, found: Probabilities | None = PROBABILITIES) -> Report:
    report, made = measured_report(), SPACE.architecture(genotype)
    summary = architecture_of(
        made, block_rows(SPACE, made, MODEL, found), cell_rows(SPACE, made, MODEL, found)
    )
    [result] = report.results
    result = msgspec.structs.replace(result, architecture=summary)
    return msgspec.structs.replace(report, results=(result,))


@pytest.mark.parametrize("genotype", NETWORKS)
def test_the_blocks_of_a_decision_are_the_sites_of_its_candidate(genotype: Genotype) -> None:
    made = SPACE.architecture(genotype)
    told: Counter[tuple[int, Block]] = Counter()
    for block, number in zip(made.blocks, SPACE.decided(made), strict=True):
        if number is not None:
            told[number, block] += 1
    expected: Counter[tuple[int, Block]] = Counter()
    for site in SPACE.sites():
        if genotype.choices[site.decision] == site.candidate:
            expected[site.decision, site.block] += site.multiplicity
    assert told == expected
    others = Counter(
        block
        for block, number in zip(made.blocks, SPACE.decided(made), strict=True)
        if number is None
    )
    assert others == Counter(SPACE.fixed)


def test_stem_and_head_are_in_no_cell_and_cells_follow_each_other() -> None:
    made = SPACE.architecture(SPACE.usual)
    cells = SPACE.cell_of(made)
    assert cells[0] is None and cells[-1] is None
    inside = [cell for cell in cells if cell is not None]
    assert inside == sorted(inside) and set(inside) == set(range(5))
    foreign = SPACE.architecture(published_genotype("NASNet"))
    assert set(SPACE.cell_of(foreign)) == set(SPACE.decided(foreign)) == {None}
    assert cell_rows(SPACE, foreign, MODEL, None) == []


def test_the_shares_of_a_decision_stand_once_and_its_probability_at_every_block() -> None:
    [result] = report_of(SPACE.usual).results
    rows = result.architecture.blocks
    decided = [row for row in rows if row.decision]
    assert len(decided) == 8 * 3 + 8 * 2
    shown = [row.decision for row in rows if row.candidates]
    assert shown == [one.name for one in SPACE.decisions]
    assert all(row.probability is not None and row.chosen for row in decided)


def test_an_edge_costs_what_its_blocks_cost_in_all_cells() -> None:
    for space in (SPACE, in_precision(SPACE, "int8")):
        made = space.architecture(SPACE.usual)
        normal, reduction = cell_rows(space, made, MODEL, PROBABILITIES)
        assert (normal.kind, normal.copies) == ("normal", 3)
        assert (reduction.kind, reduction.copies) == ("reduction", 2)
        cells = published_genotype("DARTS_V2")
        for row, cell in ((normal, cells.normal), (reduction, cells.reduction)):
            said = [[(edge.op, edge.source) for edge in node] for node in row.nodes]
            assert said == [[(edge.op, edge.source) for edge in node] for node in cell.nodes]
            assert row.concat == cell.concat
        edges = [edge for row in (normal, reduction) for node in row.nodes for edge in node]
        decided = space.decided(made)
        for number, edge in enumerate(edges):
            blocks = [b for b, of in zip(made.blocks, decided, strict=True) if of == number]
            assert edge.predicted_ms == pytest.approx(sum(block.macs for block in blocks) / 1e6)
            choice = made.genotype.choices[number]
            assert edge.probability == PROBABILITIES.probs[number][choice]


def test_a_kind_of_cell_that_no_network_has_is_not_shown() -> None:
    short = cell_space((3, 32, 32), 10, channels=8, layers=1)
    [only] = cell_rows(short, short.architecture(short.usual), MODEL, None)
    assert (only.kind, only.copies) == ("reduction", 1)


def test_the_drawing_has_a_box_for_each_cell_with_what_all_its_blocks_take() -> None:
    [result] = report_of(SPACE.usual).results
    rows = result.architecture.blocks
    picture = drawing(rows)
    assert picture.count('<rect class="box') == 1 + 5 + 1
    assert [words for _, words in legend(rows)] == [
        "convolution", "cell (its operations are below)", "pool and linear",
    ]  # fmt: skip
    assert picture.count(">s2<") == 2
    last = sum(row.macs for row in rows if row.cell == 4)
    assert f"{last / 1e3:.0f} k MACs" in picture or f"{last / 1e6:.2f} M MACs" in picture


def test_each_operation_of_a_cell_is_one_arrow_from_its_source() -> None:
    [result] = report_of(SPACE.usual).results
    pictures = cell_drawings(result.architecture.cells)
    assert [title.split(",")[0] for title, _ in pictures] == ["Normal cell", "Reduction cell"]
    for _, picture in pictures:
        assert picture.count('class="head"') == 8
        assert picture.count("↓ output") == 4
        assert picture.count("chosen with probability") == 8
    assert ("op-other", "pool") in cell_legend(result.architecture.cells)


def test_an_operation_of_another_version_is_drawn_and_cannot_become_markup() -> None:
    cell = CellRow("normal", 1, ((EdgeRow("<b>", 0),), ()), (2, 3))
    [(title, picture)] = cell_drawings([cell])
    assert title == "Normal cell, 1 in the network"
    assert "<b>" not in picture and "&lt;b&gt;" in picture
    assert picture.count('class="head"') == 1


def test_both_pages_show_the_cells_and_a_chain_has_none() -> None:
    report = report_of(SPACE.usual)
    assert "Its cells" in html(report) and html(report).count('<svg class="network cell"') == 2
    text = markdown(report)
    assert "### Cells" in text and "Reduction cell, 2 in the network" in text
    assert text.count("| the last cell |") + text.count("| the cell before last |") == sum(
        edge.source < 2
        for cell in (
            published_genotype("DARTS_V2").normal,
            published_genotype("DARTS_V2").reduction,
        )
        for edge in cell.edges
    )
    assert "Its cells" not in html(measured_report())
    assert "### Cells" not in markdown(measured_report())
    plain = report_of(SPACE.usual, found=None)
    assert "chosen with probability" not in html(plain)


def test_of_many_candidates_the_chart_shows_the_likeliest_and_all_that_were_chosen() -> None:
    [result] = report_of(SPACE.usual).results
    rows = result.architecture.blocks
    chart = decisions(rows)
    assert chart is not None
    names = chart["data"][0]["y"]
    assert MOST_NAMES <= len(names) < 35
    assert {row.chosen for row in rows if row.chosen} <= set(names)
    assert len(chart["data"][0]["x"]) == 16
