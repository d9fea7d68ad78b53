"""`cells`: networks that stack two small graphs, the space of DARTS and ISTA-NAS.

Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv:1806.09055,
section 2.1; Yang et al., "ISTA-NAS", NeurIPS 2020, arXiv:2010.06176. A node sums two operations,
each on the output of any node before it; all cells of a kind are the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from math import comb, prod
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.spaces.cells.genotype import (
    CELL_INPUTS,
    DARTS_OPS,
    Cell,
    CellGenotype,
    Edge,
    published_genotype,
)
from hwnas.spaces.cells.layout import (
    CellPlace,
    Norm,
    Stack,
    StackSize,
    Stem,
    add_block,
    cell_places,
    concat_block,
    edge_block,
    lay_out,
    logits_block,
    stem_blocks,
)
from hwnas.spaces.space import Baseline, Decision, Site, check_genotype

EDGES_PER_NODE = 2
"""Number of operations that a node sums."""
MAX_SMALL_INPUT_PX = 96
"""Largest input size for which `cell_space` uses the stem for small images."""
DEFAULT_CELLS = "DARTS_V2"
BASELINE_CELLS = (DEFAULT_CELLS, "ISTA_twostage")
"""Published cells that are measured as baselines."""
WIDTH_MULTS = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)
"""Width multipliers of the baselines."""


def cell_space(
    input_shape: tuple[int, int, int],
    num_classes: int,
    channels: int = 16,
    layers: int = 8,
    stem: Stem | None = None,
    norm: Norm = "none",
) -> CellSpace:
    """Return the space of networks of ``layers`` cells whose first cell has ``channels``.

    The defaults are the size at which DARTS searches; its final networks have 36 channels and 20
    cells (CIFAR), 48 and 14 (ImageNet). The default ``stem`` depends on the size of the images.
    """
    _, height, width = input_shape
    if channels < 2 or channels % 2:
        raise UsageError(f"the cell space takes an even number of channels, got {channels}")
    if layers < 1:
        raise UsageError(f"a network has at least one cell, got layers={layers}")
    stem = stem or ("cifar" if max(height, width) <= MAX_SMALL_INPUT_PX else "imagenet")
    space = CellSpace("cells", input_shape, num_classes, channels, layers, stem, norm)
    cell_places(space.stack, space.nodes, space.nodes)
    return space


def searched_cells(input_shape: tuple[int, int, int], num_classes: int) -> CellSpace:
    """Return the space that a run searches by default: for small images, 5 cells of 8 channels.

    The supernet computes about ten times as much as a network, and with 8 cells of 16 channels a
    search would take a CPU hours. For larger images the size is that of `cell_space`.
    """
    if max(input_shape[1:]) > MAX_SMALL_INPUT_PX:
        return cell_space(input_shape, num_classes)
    return cell_space(input_shape, num_classes, channels=8, layers=5)


def normed_cells(input_shape: tuple[int, int, int], num_classes: int) -> CellSpace:
    """Return `searched_cells` with a batch norm after pools and skips as well.

    The one-stage search of ISTA-NAS needs it, as there every operation must have a gate.
    """
    space = searched_cells(input_shape, num_classes)
    return msgspec.structs.replace(space, name="cells-norm", norm="pool and skip")


class CellSpace(msgspec.Struct, frozen=True, dict=True):
    """All stacks of a normal and a reduction cell with ``nodes`` nodes of two operations each.

    A decision is one of the two inputs of a node: an operation and an earlier node. The decisions
    are independent: a node may take both inputs from one source, as in ISTA-NAS. In DARTS the two
    sources differ, and so they do in `random` and `neighbours`.

    A candidate occurs in all cells of its kind. Hence `sites` yields a block for each width and
    size at which the cell occurs, with the number of such cells as its multiplicity; the cost of a
    candidate is the sum. Together with `fixed` these are exactly the blocks of `architecture`. (A
    relaxed search over all edges of a node, two of which remain, must weight the sites by the
    probability that an edge remains.)
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    channels: int
    layers: int
    stem: Stem
    norm: Norm = "none"
    ops: tuple[str, ...] = DARTS_OPS[1:]
    nodes: int = 4
    search_size: StackSize | None = None
    """Size of the search net; ``None``: that of the networks."""

    @property
    def searched(self) -> CellSpace:
        """The space of the same cells in networks of the search net's size. Both spaces have the
        same genotypes, but different blocks and so different costs."""
        if (size := self.search_size) is None:
            return self
        return msgspec.structs.replace(
            self, channels=size.channels, layers=size.layers, search_size=None
        )

    @property
    def stack(self) -> Stack:
        return Stack(
            self.input_shape, self.num_classes, self.channels, self.layers, self.stem, self.norm
        )

    @cached_property
    def places(self) -> tuple[CellPlace, ...]:
        """The cells in order, as in all networks of the space."""
        return tuple(cell_places(self.stack, self.nodes, self.nodes))

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(
                f"{kind} node {node} operation {number}",
                tuple(f"{edge.op} of {edge.source}" for edge in self.options(node)),
            )
            for kind in ("normal", "reduction")
            for node in self._nodes
            for number in range(1, EDGES_PER_NODE + 1)
        )

    def options(self, node: int) -> tuple[Edge, ...]:
        """Return the candidates of both decisions of a node (numbered from 2)."""
        return tuple(Edge(op, source) for source in range(node) for op in self.ops)

    @property
    def size(self) -> int:
        """Number of networks whose nodes have two different sources."""
        each = (
            comb(node, EDGES_PER_NODE) * len(self.ops) ** EDGES_PER_NODE for node in self._nodes
        )
        return prod(each) ** 2

    @property
    def default(self) -> Genotype:
        """The cells of DARTS; separable convolutions where the space lacks their operations."""
        try:
            return self.genotype(published_genotype(DEFAULT_CELLS))
        except UsageError:
            first = self.ops[0]
            op = "sep_conv_3x3" if "sep_conv_3x3" in self.ops else first
            edges = [(Edge(op, 0), Edge(op, 1)) for _ in range(self.nodes)]
            cell = Cell(tuple(edges), tuple(self._nodes))
            return self.genotype(CellGenotype(cell, cell))

    @property
    def fixed(self) -> tuple[Block, ...]:
        """Stem, preprocessing, sums, concatenations and classifier."""
        blocks = [*stem_blocks(self.stack)]
        for place in self.places:
            blocks += place.preprocess
            blocks += [add_block(EDGES_PER_NODE, place)] * self.nodes
            blocks.append(concat_block(self.nodes, place))
        last = blocks[-1]
        return (*blocks, logits_block(last.out_channels, last.out_size, self.num_classes))

    def sites(self) -> Iterable[Site]:
        for decision in range(len(self.decisions)):
            reduction, node, _ = self._position(decision)
            places = [place for place in self.places if place.reduction == reduction]
            for candidate, edge in enumerate(self.options(node)):
                blocks = Counter(edge_block(edge, place, self.norm) for place in places)
                for block, cells in blocks.items():
                    yield Site(decision, candidate, block, cells)

    def reach_ms(self, rows: Sequence[Sequence[float]]) -> tuple[float, float]:
        """Return the smallest and the largest cost of a network's operations, given ``[P][K]``.

        Only networks whose nodes have two different sources count, as every cell search can find
        them; others may be faster still.
        """
        kinds, least, greatest = len(self.ops), 0.0, 0.0
        for row in rows[::EDGES_PER_NODE]:
            by_source = [row[at : at + kinds] for at in range(0, len(row), kinds)]
            least += sum(sorted(map(min, by_source))[:EDGES_PER_NODE])
            greatest += sum(sorted(map(max, by_source))[-EDGES_PER_NODE:])
        return least, greatest

    def architecture(self, genotype: Genotype | CellGenotype) -> Architecture:
        """Return the network of a genotype of the space or of any other cells."""
        cells = self.cells(genotype) if isinstance(genotype, Genotype) else genotype
        layout = lay_out(self.stack, cells)
        if not isinstance(genotype, Genotype):
            genotype = self._genotype(cells)
        return Architecture(
            genotype, layout.blocks, self.input_shape, self.num_classes, layout.inputs
        )

    def cells(self, genotype: Genotype) -> CellGenotype:
        """Return the cells of the choices. Raises `UsageError` for those of another space."""
        check_genotype(genotype, self.name, self.decisions)
        edges = [
            self.options(self._position(number)[1])[choice]
            for number, choice in enumerate(genotype.choices)
        ]
        nodes = tuple(
            tuple(edges[at : at + EDGES_PER_NODE]) for at in range(0, len(edges), EDGES_PER_NODE)
        )
        concat = tuple(self._nodes)
        return CellGenotype(Cell(nodes[: self.nodes], concat), Cell(nodes[self.nodes :], concat))

    def genotype(self, cells: CellGenotype) -> Genotype:
        """Return the choices for these cells. Raises `UsageError` for cells outside the space."""
        choices: list[int] = []
        for kind, cell in (("normal", cells.normal), ("reduction", cells.reduction)):
            if len(cell.nodes) != self.nodes or cell.concat != tuple(self._nodes):
                raise UsageError(
                    f"{kind} cell: {len(cell.nodes)} nodes with concat {list(cell.concat)} are not "
                    f"in the space, whose cells have {self.nodes} nodes, all in concat"
                )
            for node, edges in enumerate(cell.nodes, CELL_INPUTS):
                options = self.options(node)
                if len(edges) != EDGES_PER_NODE or not set(edges) <= set(options):
                    inputs = (
                        ", ".join(f"{edge.op} of {edge.source}" for edge in edges) or "no input"
                    )
                    raise UsageError(f"{kind} cell: node {node} ({inputs}) is not in the space")
                choices += [options.index(edge) for edge in edges]
        return Genotype(self.name, tuple(choices))

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Several blocks come from a decision: one in each cell of its kind."""
        if architecture.genotype.space != self.name:
            return (None,) * len(architecture.blocks)
        return lay_out(self.stack, self.cells(architecture.genotype)).edges

    def cell_of(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the number of the cell of each block, None for stem and head."""
        if architecture.genotype.space != self.name:
            return (None,) * len(architecture.blocks)
        return lay_out(self.stack, self.cells(architecture.genotype)).cells

    def baselines(self) -> Iterable[Baseline]:
        """Yield networks of published cells, as deep as the space's, in all `WIDTH_MULTS`."""
        for name in BASELINE_CELLS:
            cells = published_genotype(name)
            for width_mult in WIDTH_MULTS:
                channels = max(2, round(self.channels * width_mult / 2) * 2)
                wide = msgspec.structs.replace(self, channels=channels)
                yield Baseline(f"{name} C{channels}", "published", wide.architecture(cells))

    def random(self, rng: Random) -> Genotype:
        """Draw uniformly from the networks whose nodes have two different sources."""
        choices: list[int] = []
        for _ in range(2):
            for node in self._nodes:
                sources = sorted(rng.sample(range(node), EDGES_PER_NODE))
                kinds = len(self.ops)
                choices += [source * kinds + rng.randrange(kinds) for source in sources]
        return Genotype(self.name, tuple(choices))

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all that differ in a decision and whose nodes still have two different sources."""
        choices, kinds = genotype.choices, len(self.ops)
        for place, chosen in enumerate(choices):
            other = choices[place ^ 1]
            for candidate in range(len(self.decisions[place].candidates)):
                if candidate != chosen and candidate // kinds != other // kinds:
                    changed = (*choices[:place], candidate, *choices[place + 1 :])
                    yield Genotype(self.name, changed)

    @property
    def _nodes(self) -> range:
        return range(CELL_INPUTS, CELL_INPUTS + self.nodes)

    def _position(self, decision: int) -> tuple[bool, int, int]:
        """Return whether a decision is in the reduction cell, its node and its number there."""
        node, number = divmod(decision, EDGES_PER_NODE)
        return node >= self.nodes, CELL_INPUTS + node % self.nodes, number

    def _genotype(self, cells: CellGenotype) -> Genotype:
        """Return the genotype of the cells; one without choices if they are outside the space."""
        try:
            return self.genotype(cells)
        except UsageError:
            return Genotype(f"{self.name} (given)", ())
