"""Cells as plain data: the operations that each node sums, and the nodes of the cell's output.

Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv:1806.09055.
Nodes are numbered as there: 0 and 1 are the outputs of the cells two and one before, the nodes of
the cell follow from 2. A node may have two operations on the same source, as in ISTA-NAS (Yang et
al., NeurIPS 2020, arXiv:2010.06176) and NASNet (Zoph et al., CVPR 2018, arXiv:1707.07012), or no
input at all, as in FairDARTS (Chu et al., ECCV 2020, arXiv:1911.12126): its output is then zero.
(The code of FairDARTS leaves such a node out of the concatenation; here ``concat`` decides.)
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import msgspec

from hwnas.errors import UnknownName, UsageError
from hwnas.files import decode, read_json

DARTS_OPS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The operations of DARTS in the order of its code; ISTA-NAS has all but the first."""

EDGE_OPS = (*DARTS_OPS[1:], "sep_conv_7x7", "conv_7x1_1x7")
"""The operations of a genotype's edges; ``none`` is an absent edge."""

CELL_INPUTS = 2


class Edge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An operation on the output of a node; in JSON ``["sep_conv_3x3", 0]``."""

    op: str
    source: int


class Cell(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The edges into each node, and the nodes that are concatenated to the output."""

    nodes: tuple[tuple[Edge, ...], ...]
    concat: tuple[int, ...]

    @property
    def edges(self) -> tuple[Edge, ...]:
        return tuple(edge for node in self.nodes for edge in node)


class CellGenotype(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two kinds of cells that a network stacks. Raises `UsageError` for an invalid cell."""

    normal: Cell
    reduction: Cell

    def __post_init__(self) -> None:
        for kind, cell in (("normal", self.normal), ("reduction", self.reduction)):
            _check_cell(f"{kind} cell", cell)


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file in a public repository in which a genotype was published."""

    repository: str
    path: str
    commit: str


class PublishedCells(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    genotype: CellGenotype
    source: Source


@cache
def published_cells() -> dict[str, PublishedCells]:
    """Return the published genotypes that are shipped, by name."""
    file = files("hwnas.spaces.cells") / "genotypes.json"
    return read_json(file, dict[str, PublishedCells])


def published_genotype(name: str) -> CellGenotype:
    """Return a published genotype, e.g. ``DARTS_V2``. Raises `UnknownName`."""
    known = published_cells()
    if name not in known:
        raise UnknownName("published genotype", name, known)
    return known[name].genotype


def read_genotype(data: bytes, file: str) -> CellGenotype:
    """Read a genotype from JSON. Raises `InvalidFile` with the invalid field."""
    return decode(data, CellGenotype, file)


def _check_cell(name: str, cell: Cell) -> None:
    for node, source in _edges(name, cell):
        if source == node:
            raise UsageError(f"{name}: node {node} takes its own output: a cycle")
        if source > node:
            raise UsageError(
                f"{name}: node {node} takes node {source}, which comes after it: a cycle, or "
                "nodes in an order in which they cannot run"
            )
    if not cell.edges:
        raise UsageError(f"{name}: no node has an input")
    last = CELL_INPUTS + len(cell.nodes) - 1
    if not cell.concat:
        raise UsageError(f"{name}: concat names no node, so the cell has no output")
    for place, node in enumerate(cell.concat):
        if not CELL_INPUTS <= node <= last:
            raise UsageError(f"{name}: concat names node {node}; its nodes are 2 to {last}")
        if node in cell.concat[:place]:
            raise UsageError(f"{name}: concat names node {node} twice")
    if not _has_path(cell):
        raise UsageError(f"{name}: nothing leads from its inputs to the nodes in concat")


def _edges(name: str, cell: Cell) -> Iterator[tuple[int, int]]:
    """Yield (node, source) of each edge whose operation and source exist."""
    last = CELL_INPUTS + len(cell.nodes) - 1
    for node, edges in enumerate(cell.nodes, CELL_INPUTS):
        for edge in edges:
            if edge.op not in EDGE_OPS:
                raise UsageError(
                    f"{name}, node {node}: {UnknownName('cell op', edge.op, EDGE_OPS)}"
                )
            if not 0 <= edge.source <= last:
                raise UsageError(
                    f"{name}: node {node} takes node {edge.source}, which does not exist; "
                    f"there are nodes 0 to {last}"
                )
            yield node, edge.source


def _has_path(cell: Cell) -> bool:
    alive = set(range(CELL_INPUTS))
    for node, edges in enumerate(cell.nodes, CELL_INPUTS):
        if any(edge.source in alive for edge in edges):
            alive.add(node)
    return any(node in alive for node in cell.concat)
