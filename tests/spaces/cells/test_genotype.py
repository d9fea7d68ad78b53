"""Genotypes of cells: the published ones, their JSON, and what cannot be a cell."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.spaces.cells.genotype import (
    EDGE_OPS,
    Cell,
    CellGenotype,
    Edge,
    published_cells,
    published_genotype,
    read_genotype,
)
from tests.support.networks.published_cells import COUNTS
from tests.support.paths import SHARED_DATA

SHARED = SHARED_DATA / "genotypes.json"
SKIP = Edge("skip_connect", 0)


def as_json(**normal: Any) -> bytes:
    cell = {"nodes": [[["skip_connect", 0], ["sep_conv_3x3", 1]]], "concat": [2]}
    return json.dumps({"normal": {**cell, **normal}, "reduction": cell}).encode()


def test_the_published_genotypes_are_those_whose_counts_are_known() -> None:
    assert set(published_cells()) == set(COUNTS) and len(COUNTS) == 31


def test_their_operations_are_all_that_an_edge_may_be() -> None:
    cells = [
        cell
        for cells in published_cells().values()
        for cell in (cells.genotype.normal, cells.genotype.reduction)
    ]
    assert {edge.op for cell in cells for edge in cell.edges} == set(EDGE_OPS)


def test_each_says_the_repository_the_path_and_the_commit_it_is_from() -> None:
    for cells in published_cells().values():
        owner, repository = cells.source.repository.split("/")
        assert owner and repository and cells.source.path and len(cells.source.commit) == 40


@pytest.mark.skipif(not SHARED.exists(), reason="the collected genotypes are not beside the code")
def test_they_are_the_collected_ones_in_our_form() -> None:
    for name, given in json.loads(SHARED.read_text())["cnn"].items():
        genotype = published_genotype(name)
        for cell, kind in ((genotype.normal, "normal"), (genotype.reduction, "reduce")):
            assert list(cell.concat) == given[f"{kind}_concat"]
            edges = [
                [edge.op, node, edge.source] if given["edge_format"] == "op,node,source"
                else [edge.op, edge.source]
                for node, edges in enumerate(cell.nodes, 2)
                for edge in edges
            ]  # fmt: skip
            assert edges == given[kind]
            if given["edge_format"] == "op,source":
                assert all(len(node) == 2 for node in cell.nodes)


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"no published genotype named 'DARTS_V3', did you mean"):
        published_genotype("DARTS_V3")


def test_json_gives_the_same_genotype_again() -> None:
    for cells in published_cells().values():
        assert read_genotype(msgspec.json.encode(cells.genotype), "any") == cells.genotype


def test_an_edge_is_a_pair_in_json() -> None:
    cell = Cell(((SKIP, Edge("sep_conv_3x3", 1)),), (2,))
    assert read_genotype(as_json(), "any") == CellGenotype(cell, cell)


def test_a_node_may_take_two_operations_from_one_source_and_another_node_none() -> None:
    pool = ["avg_pool_3x3", 0]
    read = read_genotype(as_json(nodes=[[pool, pool], []], concat=[2, 3]), "any")
    assert read.normal.nodes == ((Edge("avg_pool_3x3", 0),) * 2, ())


@pytest.mark.parametrize(
    ("normal", "message"),
    [
        (
            {"nodes": [[["sep_conv_3x4", 0]]]},
            "normal cell, node 2: no cell op named 'sep_conv_3x4', did you mean 'sep_conv_3x3'?",
        ),
        ({"nodes": [[["none", 0]]]}, "no cell op named 'none'"),
        (
            {"nodes": [[["skip_connect", 3]], [["skip_connect", 2]]]},
            "normal cell: node 2 takes node 3, which comes after it: a cycle",
        ),
        ({"nodes": [[["skip_connect", 2]]]}, "normal cell: node 2 takes its own output: a cycle"),
        ({"nodes": [[["skip_connect", 7]]]}, "takes node 7, which does not exist; there are nod"),
        ({"nodes": [[["skip_connect", -1]]]}, "takes node -1, which does not exist"),
        ({"nodes": [[], []]}, "normal cell: no node has an input"),
        ({"nodes": []}, "normal cell: no node has an input"),
        (
            {"nodes": [[], [["skip_connect", 2]], [["skip_connect", 0]]], "concat": [3]},
            "normal cell: nothing leads from its inputs to the nodes in concat",
        ),
        ({"concat": []}, "normal cell: concat names no node"),
        ({"concat": [1]}, "normal cell: concat names node 1; its nodes are 2 to 2"),
        ({"concat": [2, 2]}, "normal cell: concat names node 2 twice"),
        ({"concatenate": [2]}, "unknown field `concatenate` - at `$.normal`"),
        ({"nodes": [[["skip_connect", "0"]]]}, "Expected `int`, got `str` - at `$.normal.nodes"),
    ],
)
def test_a_file_of_what_cannot_be_a_cell_says_what_and_where(
    normal: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidFile) as raised:
        read_genotype(as_json(**normal), "mine.json")
    error = str(raised.value)
    assert error.startswith("mine.json: ") and message in error and "\n" not in error


def test_a_file_that_is_no_json_says_so() -> None:
    for data in (b"Genotype(normal=[])", b"\xff"):
        with pytest.raises(InvalidFile, match=r"^mine\.json: "):
            read_genotype(data, "mine.json")


def test_what_cannot_be_a_cell_cannot_be_made_in_code_either() -> None:
    good = Cell(((SKIP,),), (2,))
    with pytest.raises(UsageError, match="reduction cell: no node has an input"):
        CellGenotype(good, Cell(((),), (2,)))
