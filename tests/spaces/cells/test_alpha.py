"""From architecture parameters to cells and back."""

from __future__ import annotations

from itertools import product

import pytest

from hwnas.errors import UsageError
from hwnas.spaces.cells.alpha import Ranking, edge_count, genotype_from_alpha, softmax
from hwnas.spaces.cells.genotype import DARTS_OPS, Cell, CellGenotype, Edge, published_cells

OPS = ("none", "max_pool_3x3", "skip_connect")
DERIVED = [
    name
    for name, cells in published_cells().items()
    if all(
        len(cell.nodes) == 4 and all(len(node) == 2 for node in cell.nodes)
        for cell in (cells.genotype.normal, cells.genotype.reduction)
    )
]
"""Those with two operations at each of four nodes."""


def alpha_of(cell: Cell) -> list[list[float]]:
    """Return parameters that are 10 at the edges of a cell, and 0."""
    rows = [[0.0] * len(DARTS_OPS) for _ in range(edge_count(len(cell.nodes)))]
    for node, edges in enumerate(cell.nodes):
        for edge in edges:
            rows[edge_count(node) + edge.source][DARTS_OPS.index(edge.op)] = 10.0
    return rows


def sets(genotype: CellGenotype) -> list[set[Edge]]:
    return [set(node) for cell in (genotype.normal, genotype.reduction) for node in cell.nodes]


def kept_sources(rows: list[list[float]], ranking: Ranking) -> set[int]:
    """Return the sources that node 3 keeps of its three."""
    alpha = [[0.0, 0.0, 0.0]] * 2 + rows
    cell = genotype_from_alpha(alpha, alpha, OPS, ranking).normal
    return {edge.source for edge in cell.nodes[1]}


def test_four_nodes_have_fourteen_edges() -> None:
    assert [edge_count(nodes) for nodes in range(5)] == [0, 2, 5, 9, 14]


@pytest.mark.parametrize("ranking", ["softmax", "raw"])
@pytest.mark.parametrize("name", DERIVED)
def test_the_parameters_of_a_published_cell_give_it_back(name: str, ranking: Ranking) -> None:
    genotype = published_cells()[name].genotype
    alpha = alpha_of(genotype.normal), alpha_of(genotype.reduction)
    assert sets(genotype_from_alpha(*alpha, ranking=ranking)) == sets(genotype)


def test_most_of_the_published_cells_can_be_derived() -> None:
    # not NASNet, AmoebaNet (five nodes), six of FairDARTS (nodes of one or no operation)
    assert len(DERIVED) >= 22 and len(set(published_cells()) - set(DERIVED)) <= 9


def test_a_heavy_none_demotes_an_edge_by_softmax_and_not_by_raw_parameters() -> None:
    edges = [[5.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.4, 0.0]]
    scores = [max(softmax(row)[1:]) for row in edges]
    assert scores == pytest.approx([0.0179, 0.4519, 0.4272], abs=5e-5)
    assert kept_sources(edges, "softmax") == {1, 2}
    assert kept_sources(edges, "raw") == {0, 1}


def test_softmax_is_the_default() -> None:
    alpha = [[0.0, 0.0, 0.0]] * 2 + [[5.0, 1.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.4, 0.0]]
    assert genotype_from_alpha(alpha, alpha, OPS) == genotype_from_alpha(
        alpha, alpha, OPS, "softmax"
    )


def test_the_lower_index_wins_a_tie_of_edges_and_of_operations() -> None:
    alpha = [[0.0] * len(DARTS_OPS)] * 14
    for node in genotype_from_alpha(alpha, alpha).normal.nodes:
        assert node == (Edge("max_pool_3x3", 0), Edge("max_pool_3x3", 1))


def test_none_is_never_chosen() -> None:
    for ranking in ("softmax", "raw"):
        alpha = [[9.0] + [0.0] * 7] * 14
        cells = genotype_from_alpha(alpha, alpha, ranking=ranking)
        assert all(edge.op != "none" for edge in cells.normal.edges)


def test_the_best_operation_is_known_where_its_softmax_underflows() -> None:
    rows = [[0.0, -2000.0, -1000.0]] * 2
    for ranking in ("softmax", "raw"):
        (node,) = genotype_from_alpha(rows, rows, OPS, ranking).normal.nodes
        assert [edge.op for edge in node] == ["skip_connect"] * 2


def test_operations_may_do_without_none() -> None:
    rows = [[float(edge == op) for op in range(7)] for edge in range(14)]
    cells = genotype_from_alpha(rows, rows, DARTS_OPS[1:])
    assert cells.normal.nodes[0] == (Edge("max_pool_3x3", 0), Edge("avg_pool_3x3", 1))


def test_without_none_both_rankings_agree_where_rows_have_one_sum_of_powers() -> None:
    values = (0.0, 1.0, 2.0)
    rows = [[values[(edge + op) % 3] for op in range(3)] for edge in range(14)]
    ops = ("max_pool_3x3", "skip_connect", "sep_conv_3x3")
    first, other = (genotype_from_alpha(rows, rows, ops, ranking) for ranking in ("softmax", "raw"))
    assert first == other


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0.0] * 8] * 13, "normal cell: 13 edges, expected 2, 5, 9, 14"),
        ([], "normal cell: 0 edges"),
        ([[0.0] * 8] * 13 + [[0.0] * 7], "normal cell, edge 13: 7 values for 8 ops"),
        ([[0.0] * 8] * 13 + [[float("nan")] * 8], "normal cell, edge 13: a parameter is not fini"),
    ],
)
def test_parameters_of_another_form_are_refused(rows: list[list[float]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        genotype_from_alpha(rows, rows)


def test_kept_edges_are_the_best_of_all_pairs() -> None:
    """By enumeration: no other two edges of a node score more in sum."""
    rows = [[0.0, ((7 * edge) % 5) / 5, ((3 * edge) % 4) / 4] for edge in range(14)]
    cells = genotype_from_alpha(rows, rows, OPS, "raw")
    for node, edges in enumerate(cells.normal.nodes, 2):
        best = [max(rows[edge_count(node - 2) + source][1:]) for source in range(node)]
        got = sum(best[edge.source] for edge in edges)
        pairs = [(a, b) for a, b in product(range(node), repeat=2) if a < b]
        assert got == pytest.approx(max(best[a] + best[b] for a, b in pairs))
