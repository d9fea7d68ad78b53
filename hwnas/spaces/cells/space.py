"""`cells`: two small graphs, of which a network is stacked; the space of DARTS and ISTA-NAS.

Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, arXiv:1806.09055,
section 2.1; Yang et al., "ISTA-NAS", NeurIPS 2020, arXiv:2010.06176. A node sums two operations,
each on the output of any node before; the cells of one kind are all alike.
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
    Stem,
    add_block,
    cell_places,
    concat_block,
    edge_block,
    lay_out,
    logits_block,
    stem_blocks,
)
from hwnas.spaces.space import Baseline, Decision, Site

EDGES = 2
"""Operations that a node of the space sums."""
LARGEST_SMALL_INPUT = 96
"""Up to this input size, in pixels, `cell_space` takes the stem for small images."""
USUAL = "DARTS_V2"
PUBLISHED = (USUAL, "ISTA_twostage")
"""Published cells that are measured as baselines."""
WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 1.0, 1.25, 1.5, 2.0)
"""What their channels are multiplied with."""


def cell_space(
    input_shape: tuple[int, int, int],
    num_classes: int,
    channels: int = 16,
    layers: int = 8,
    stem: Stem | None = None,
    norm: Norm = "none",
) -> CellSpace:
    """Return the space of networks of ``layers`` cells, ``channels`` wide at first.

    The defaults are the size at which DARTS searches; its final networks have 36 and 20 (CIFAR),
    48 and 14 (ImageNet). Without ``stem`` it is that for the size of the images.
    """
    _, height, width = input_shape
    if height != width:
        raise UsageError(f"the cell space takes square images, got {height}x{width}")
    if channels < 2 or channels % 2:
        raise UsageError(f"the cell space takes an even number of channels, got {channels}")
    if layers < 1:
        raise UsageError(f"a network has at least one cell, got layers={layers}")
    stem = stem or ("cifar" if height <= LARGEST_SMALL_INPUT else "imagenet")
    space = CellSpace("cells", input_shape, num_classes, channels, layers, stem, norm)
    cell_places(space.stack, space.nodes, space.nodes)
    return space


def searched_cells(input_shape: tuple[int, int, int], num_classes: int) -> CellSpace:
    """Return the space that a run searches by default: five cells, 8 wide, for small images.

    There a search net computes about ten times what a network does, and 8 cells of 16 channels
    would take a processor hours; for larger images it is the size of `cell_space`.
    """
    if input_shape[1] > LARGEST_SMALL_INPUT:
        return cell_space(input_shape, num_classes)
    return cell_space(input_shape, num_classes, channels=8, layers=5)


def normed_cells(input_shape: tuple[int, int, int], num_classes: int) -> CellSpace:
    """Return `searched_cells` with a batch norm after pools and skips too, as ISTA-NAS's one-stage
    search trains them: there every operation must take a gate."""
    space = searched_cells(input_shape, num_classes)
    return msgspec.structs.replace(space, name="cells-norm", norm="pool and skip")


class CellSpace(msgspec.Struct, frozen=True, dict=True):
    """All stacks of a normal and a reduction cell with ``nodes`` nodes of two operations each.

    A decision is one of the two operations of one node: which operation, on which earlier node.
    The decisions are independent: a node may take both from one source, as in ISTA-NAS. DARTS
    keeps them different, and so do `random` and `neighbours`.

    A candidate stands in all cells of its kind. So `sites` yields several blocks for each
    candidate, one for each width and size at which the cell occurs, with the number of such cells
    as its multiplicity; what a candidate costs is the sum. Together with `fixed` this is exactly
    what `architecture` is made of. (A relaxed search that weighs all edges of a node, and keeps
    two, must weigh the sites by the probability that an edge is kept.)
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
            for number in range(1, EDGES + 1)
        )

    def options(self, node: int) -> tuple[Edge, ...]:
        """Return the candidates of both decisions of a node (numbered from 2)."""
        return tuple(Edge(op, source) for source in range(node) for op in self.ops)

    @property
    def size(self) -> int:
        """Number of networks whose nodes take two different sources."""
        each = (comb(node, EDGES) * len(self.ops) ** EDGES for node in self._nodes)
        return prod(each) ** 2

    @property
    def usual(self) -> Genotype:
        """DARTS's own cells; where the space lacks some of their operations, separable ones."""
        try:
            return self.genotype(published_genotype(USUAL))
        except UsageError:
            first = self.ops[0]
            wanted = "sep_conv_3x3" if "sep_conv_3x3" in self.ops else first
            edges = [(Edge(wanted, 0), Edge(wanted, 1)) for _ in range(self.nodes)]
            cell = Cell(tuple(edges), tuple(self._nodes))
            return self.genotype(CellGenotype(cell, cell))

    @property
    def fixed(self) -> tuple[Block, ...]:
        """Stem, preprocessing, sums, concatenations and classifier."""
        blocks = [*stem_blocks(self.stack)]
        for place in self.places:
            blocks += place.preprocess
            blocks += [add_block(EDGES, place)] * self.nodes
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
        """Return the least and the greatest cost of the operations of a network, given ``[P][K]``.

        Of the networks that every search of cells can find: nodes take two different sources. One
        that may take both from one source can be faster still.
        """
        kinds, least, greatest = len(self.ops), 0.0, 0.0
        for row in rows[::EDGES]:
            by_source = [row[at : at + kinds] for at in range(0, len(row), kinds)]
            least += sum(sorted(map(min, by_source))[:EDGES])
            greatest += sum(sorted(map(max, by_source))[-EDGES:])
        return least, greatest

    def architecture(self, genotype: Genotype | CellGenotype) -> Architecture:
        """Return the network of a genotype: of the space, or any other cells."""
        cells = self.cells(genotype) if isinstance(genotype, Genotype) else genotype
        layout = lay_out(self.stack, cells)
        chosen = genotype if isinstance(genotype, Genotype) else self._genotype(cells)
        return Architecture(
            chosen, layout.blocks, self.input_shape, self.num_classes, layout.inputs
        )

    def cells(self, genotype: Genotype) -> CellGenotype:
        """Return the cells that the choices mean. Raises `UsageError` for another space's."""
        choices = genotype.choices
        if genotype.space != self.name or len(choices) != len(self.decisions):
            raise UsageError(
                f"a genotype of space {genotype.space!r} with {len(choices)} choices does not fit "
                f"space {self.name!r} with {len(self.decisions)} decisions"
            )
        edges: list[Edge] = []
        for number, (decision, choice) in enumerate(zip(self.decisions, choices, strict=True)):
            options = self.options(self._position(number)[1])
            if not 0 <= choice < len(options):
                raise UsageError(
                    f"{decision.name}: candidate {choice} of {len(options)} does not exist"
                )
            edges.append(options[choice])
        nodes = tuple(tuple(edges[at : at + EDGES]) for at in range(0, len(edges), EDGES))
        concat = tuple(self._nodes)
        return CellGenotype(Cell(nodes[: self.nodes], concat), Cell(nodes[self.nodes :], concat))

    def genotype(self, cells: CellGenotype) -> Genotype:
        """Return the choices that mean these cells. Raises `UsageError` for others."""
        choices: list[int] = []
        for kind, cell in (("normal", cells.normal), ("reduction", cells.reduction)):
            if len(cell.nodes) != self.nodes or cell.concat != tuple(self._nodes):
                raise UsageError(
                    f"{kind} cell: {len(cell.nodes)} nodes with concat {list(cell.concat)} are not "
                    f"in the space; it has {self.nodes}, all in concat"
                )
            for node, edges in enumerate(cell.nodes, CELL_INPUTS):
                options = self.options(node)
                if len(edges) != EDGES or not set(edges) <= set(options):
                    said = ", ".join(f"{edge.op} of {edge.source}" for edge in edges) or "no input"
                    raise UsageError(f"{kind} cell: node {node} ({said}) is not in the space")
                choices += [options.index(edge) for edge in edges]
        return Genotype(self.name, tuple(choices))

    def decided(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Several blocks come from one decision: all cells of its kind have it."""
        if architecture.genotype.space != self.name:
            return (None,) * len(architecture.blocks)
        return lay_out(self.stack, self.cells(architecture.genotype)).edges

    def cell_of(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the cell that each block is in, ``None`` for stem and head."""
        if architecture.genotype.space != self.name:
            return (None,) * len(architecture.blocks)
        return lay_out(self.stack, self.cells(architecture.genotype)).cells

    def baselines(self) -> Iterable[Baseline]:
        """Yield networks of published cells, as deep as the space's, of all `WIDTHS`."""
        for name in PUBLISHED:
            cells = published_genotype(name)
            for width_mult in WIDTHS:
                channels = max(2, round(self.channels * width_mult / 2) * 2)
                wide = msgspec.structs.replace(self, channels=channels)
                yield Baseline(f"{name} C{channels}", "published", wide.architecture(cells))

    def random(self, rng: Random) -> Genotype:
        """Draw uniformly from the networks whose nodes take two different sources."""
        choices: list[int] = []
        for _ in range(2):
            for node in self._nodes:
                sources = sorted(rng.sample(range(node), EDGES))
                kinds = len(self.ops)
                choices += [source * kinds + rng.randrange(kinds) for source in sources]
        return Genotype(self.name, tuple(choices))

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all that differ in one decision and whose nodes still take different sources."""
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
        """Return whether it is in the reduction cell, the node, and which operation of it."""
        node, number = divmod(decision, EDGES)
        return node >= self.nodes, CELL_INPUTS + node % self.nodes, number

    def _genotype(self, cells: CellGenotype) -> Genotype:
        """Published cells may lie outside the space, which a name without choices says."""
        try:
            return self.genotype(cells)
        except UsageError:
            return Genotype(f"{self.name} (given)", ())
