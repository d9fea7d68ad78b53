"""Networks of cells in the report: which block comes from which decision, and the pictures."""

from __future__ import annotations

import re
from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from hwnas.architecture.architecture import Block, Genotype
from hwnas.latency_models.model import LatencyModel
from hwnas.report.architecture import ArchitectureSummary, CellRow, EdgeRow
from hwnas.report.charts.decisions import MAX_CANDIDATES, decision_chart
from hwnas.report.drawings.cell_svg import cell_legend, cell_svgs
from hwnas.report.drawings.network_svg import network_legend, network_svg
from hwnas.report.html import html, markdown
from hwnas.report.report import Report
from hwnas.spaces.cells.genotype import published_genotype
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.int8 import in_precision
from hwnas.specialize.results.rows import block_rows, cell_rows
from hwnas.specialize.steps.screening import Probabilities
from tests.support.reporting.sample_report import measured_report

SPACE = cell_space((3, 32, 32), 10, channels=8, layers=5)
MODEL = cast(LatencyModel, SimpleNamespace(block_ms=lambda block: block.macs / 1e6))
PROBABILITIES = Probabilities(
    tuple(
        tuple((k + 1) / sum(range(1, count + 1)) for k in range(count))
        for count in (len(decision.candidates) for decision in SPACE.decisions)
    ),
    tuple(tuple(float(k) for k in range(len(decision.candidates))) for decision in SPACE.decisions),
)
NETWORKS = [SPACE.default, *(SPACE.random(Random(seed)) for seed in range(3))]


def report_of(genotype: Genotype, probabilities: Probabilities | None = PROBABILITIES) -> Report:
    report, network = measured_report(), SPACE.architecture(genotype)
    summary = ArchitectureSummary.from_architecture(
        network,
        block_rows(SPACE, network, MODEL, probabilities),
        cell_rows(SPACE, network, MODEL, probabilities),
    )
    [result] = report.results
    result = msgspec.structs.replace(result, architecture=summary)
    return msgspec.structs.replace(report, results=(result,))


@pytest.mark.parametrize("genotype", NETWORKS)
def test_the_blocks_of_a_decision_are_its_candidates_sites(genotype: Genotype) -> None:
    network = SPACE.architecture(genotype)
    decided: Counter[tuple[int, Block]] = Counter()
    for block, number in zip(network.blocks, SPACE.block_decisions(network), strict=True):
        if number is not None:
            decided[number, block] += 1
    expected: Counter[tuple[int, Block]] = Counter()
    for site in SPACE.sites():
        if genotype.choices[site.decision] == site.candidate:
            expected[site.decision, site.block] += site.multiplicity
    assert decided == expected
    others = Counter(
        block
        for block, number in zip(network.blocks, SPACE.block_decisions(network), strict=True)
        if number is None
    )
    assert others == Counter(SPACE.fixed)


def test_only_stem_and_head_are_outside_of_cells() -> None:
    network = SPACE.architecture(SPACE.default)
    cells = SPACE.cell_of(network)
    assert cells[0] is None and cells[-1] is None
    inside = [cell for cell in cells if cell is not None]
    assert inside == sorted(inside) and set(inside) == set(range(5))
    foreign = SPACE.architecture(published_genotype("NASNet"))
    assert set(SPACE.cell_of(foreign)) == set(SPACE.block_decisions(foreign)) == {None}
    assert cell_rows(SPACE, foreign, MODEL, None) == []


def test_a_decision_lists_its_candidates_at_its_first_block() -> None:
    [result] = report_of(SPACE.default).results
    rows = result.architecture.blocks
    decided = [row for row in rows if row.decision]
    assert len(decided) == 8 * 3 + 8 * 2
    shown = [row.decision for row in rows if row.candidates]
    assert shown == [decision.name for decision in SPACE.decisions]
    assert all(row.probability is not None and row.chosen for row in decided)


def test_an_edge_has_the_latency_of_its_blocks_in_all_cells() -> None:
    for space in (SPACE, in_precision(SPACE, "int8")):
        network = space.architecture(SPACE.default)
        normal, reduction = cell_rows(space, network, MODEL, PROBABILITIES)
        assert (normal.kind, normal.copies) == ("normal", 3)
        assert (reduction.kind, reduction.copies) == ("reduction", 2)
        cells = published_genotype("DARTS_V2")
        for row, cell in ((normal, cells.normal), (reduction, cells.reduction)):
            nodes = [[(edge.op, edge.source) for edge in node] for node in row.nodes]
            assert nodes == [[(edge.op, edge.source) for edge in node] for node in cell.nodes]
            assert row.concat == cell.concat
        edges = [edge for row in (normal, reduction) for node in row.nodes for edge in node]
        decided = space.block_decisions(network)
        for number, edge in enumerate(edges):
            blocks = [b for b, of in zip(network.blocks, decided, strict=True) if of == number]
            assert edge.predicted_ms == pytest.approx(sum(block.macs for block in blocks) / 1e6)
            choice = network.genotype.choices[number]
            assert edge.probability == PROBABILITIES.probs[number][choice]


def test_a_kind_of_cell_that_is_not_stacked_is_not_shown() -> None:
    short = cell_space((3, 32, 32), 10, channels=8, layers=1)
    [only] = cell_rows(short, short.architecture(short.default), MODEL, None)
    assert (only.kind, only.copies) == ("reduction", 1)


def test_the_drawing_sums_the_blocks_of_each_cell_in_one_box() -> None:
    [result] = report_of(SPACE.default).results
    rows = result.architecture.blocks
    picture = network_svg(rows)
    assert picture.count('<rect class="box') == 1 + 5 + 1
    assert [name for _, name in network_legend(rows)] == [
        "convolution",
        "cell (drawn below)",
        "pool and linear",
    ]
    assert picture.count(">s2<") == 2
    last = sum(row.macs for row in rows if row.cell == 4)
    assert f"{last / 1e3:.0f} k MACs" in picture or f"{last / 1e6:.2f} M MACs" in picture


def test_each_operation_of_a_cell_is_drawn_as_an_arrow() -> None:
    [result] = report_of(SPACE.default).results
    pictures = cell_svgs(result.architecture.cells)
    assert [title.split(",")[0] for title, _ in pictures] == ["Normal cell", "Reduction cell"]
    for _, picture in pictures:
        assert picture.count('class="head"') == 8
        assert picture.count("↓ output") == 4
        assert picture.count("chosen with probability") == 8
    assert ("op-other", "pool") in cell_legend(result.architecture.cells)


def test_an_unknown_operation_is_drawn_and_escaped() -> None:
    cell = CellRow("normal", 1, ((EdgeRow("<b>", 0),), ()), (2, 3))
    [(title, picture)] = cell_svgs([cell])
    assert title == "Normal cell, 1 in the network"
    assert "<b>" not in picture and "&lt;b&gt;" in picture
    assert picture.count('class="head"') == 1


def test_only_networks_of_cells_show_cells() -> None:
    report = report_of(SPACE.default)
    assert "<h3>Cells</h3>" in html(report) and html(report).count('<svg class="network cell"') == 2
    text = markdown(report)
    assert "### Cells" in text and "Reduction cell, 2 in the network" in text
    assert text.count("| cell k-1 |") + text.count("| cell k-2 |") == sum(
        edge.source < 2
        for cell in (
            published_genotype("DARTS_V2").normal,
            published_genotype("DARTS_V2").reduction,
        )
        for edge in cell.edges
    )
    assert "<h3>Cells</h3>" not in html(measured_report())
    assert "### Cells" not in markdown(measured_report())
    plain = report_of(SPACE.default, probabilities=None)
    assert "chosen with probability" not in html(plain)


def test_the_decision_chart_shows_probable_and_chosen_candidates() -> None:
    [result] = report_of(SPACE.default).results
    rows = result.architecture.blocks
    probabilities, _ = re.findall(r"<table.*?</table>", decision_chart(rows))
    names = re.findall(r"<tr><th>([^<]+)</th>", probabilities)
    assert MAX_CANDIDATES <= len(names) < 35
    assert {row.chosen for row in rows if row.chosen} <= set(names)
    assert probabilities.count("<th><span>") == probabilities.count("class=chosen") == 16
