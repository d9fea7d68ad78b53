"""`tree`: residual blocks of tree cells on a PyramidNet; ProxylessNAS's space for CIFAR-10.

Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, section 4.1. The backbone, whose blocks widen step by
step, is that of Han, Kim and Kim, "Deep Pyramidal Residual Networks", CVPR 2017, arXiv:1610.02915;
the cell is the tree of Cai et al., ICML 2018, arXiv:1806.02639: a convolution in two groups whose
output is split into two branches. A branch has two edges from its input and two more from the end
of each, and sums the four ends. Each of the twelve edges of a cell is a decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from random import Random
from typing import NamedTuple

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.graph import IMAGE, Inputs
from hwnas.architecture.size import Size, axes, size_of, size_text, strided
from hwnas.errors import UsageError
from hwnas.spaces.cells.layout import GraphBuilder
from hwnas.spaces.space import Baseline, Decision, Site, check_genotype

EDGES = {
    "sep3": ("bn_relu_sep_conv", 3),
    "sep5": ("bn_relu_sep_conv", 5),
    "sep7": ("bn_relu_sep_conv", 7),
    "dil3": ("bn_relu_dil_conv", 3),
    "skip": ("identity", 1),
    "avg3": ("avg_pool", 3),
    "max3": ("max_pool", 3),
}
"""Candidates of an edge: operation and kernel size. Convolutions are depthwise, then 1x1."""

DEFAULT_EDGE = "sep3"
EXPANSION = 4
"""Width of a block over that of its cell."""
WIDTH_MULTS = (0.25, 0.375, 0.5, 0.75, 1.0, 1.5, 2.0)
"""Width multipliers of the uniform networks."""


class TreeSpace(msgspec.Struct, frozen=True, dict=True):
    """Stages of tree cells; the first cell of each stage but the first halves the size."""

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    cells: tuple[int, ...] = (18, 18, 18)
    """Number of cells in each stage."""
    stem_width: int = 16
    base_width: int = 64
    """Width from which the blocks grow to ``last_width``."""
    last_width: int = 400
    candidates: tuple[str, ...] = tuple(EDGES)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(Decision(edge.name, self.candidates) for edge in self._layout.edges)

    @property
    def size(self) -> int:
        """Number of networks."""
        return len(self.candidates) ** len(self._layout.edges)

    @property
    def default(self) -> Genotype:
        """Separable 3x3 convolutions everywhere, or the first candidate."""
        return self.uniform(DEFAULT_EDGE if DEFAULT_EDGE in self.candidates else self.candidates[0])

    @property
    def fixed(self) -> tuple[Block, ...]:
        edges = {edge.place for edge in self._layout.edges}
        blocks = enumerate(self._layout.blocks)
        return tuple(block for place, block in blocks if place not in edges)

    def sites(self) -> Iterable[Site]:
        for decision in range(len(self._layout.edges)):
            for candidate in range(len(self.candidates)):
                yield Site(decision, candidate, self._edge(decision, candidate))

    def architecture(self, genotype: Genotype) -> Architecture:
        """Return the network of a genotype. Raises `UsageError` for one of another space."""
        check_genotype(genotype, self.name, self.decisions)
        blocks = list(self._layout.blocks)
        for decision, choice in enumerate(genotype.choices):
            blocks[self._layout.edges[decision].place] = self._edge(decision, choice)
        return Architecture(
            genotype, tuple(blocks), self.input_shape, self.num_classes, self._layout.inputs
        )

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        places = {edge.place: decision for decision, edge in enumerate(self._layout.edges)}
        return tuple(map(places.get, range(len(architecture.blocks))))

    def baselines(self) -> Iterable[Baseline]:
        """Yield networks of separable 3x3 convolutions in all `WIDTH_MULTS`."""
        for width_mult in WIDTH_MULTS:
            scaled = msgspec.structs.replace(
                self,
                name="uniform",
                stem_width=round(self.stem_width * width_mult),
                base_width=round(self.base_width * width_mult),
                last_width=round(self.last_width * width_mult),
                candidates=(DEFAULT_EDGE,),
            )
            network = scaled.architecture(scaled.default)
            yield Baseline(f"uniform {DEFAULT_EDGE} x{width_mult:g}", "uniform", network)

    def random(self, rng: Random) -> Genotype:
        choices = (rng.randrange(len(self.candidates)) for _ in self._layout.edges)
        return Genotype(self.name, tuple(choices))

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        choices = genotype.choices
        for place, chosen in enumerate(choices):
            for candidate in range(len(self.candidates)):
                if candidate != chosen:
                    changed = (*choices[:place], candidate, *choices[place + 1 :])
                    yield Genotype(self.name, changed)

    def uniform(self, candidate: str) -> Genotype:
        """Return the genotype with the same candidate everywhere."""
        number = self.candidates.index(candidate)
        return Genotype(self.name, (number,) * len(self._layout.edges))

    def _edge(self, decision: int, candidate: int) -> Block:
        edge = self._layout.blocks[self._layout.edges[decision].place]
        return _edge_block(self.candidates[candidate], edge.in_channels, edge.in_size)

    @cached_property
    def _layout(self) -> _Layout:
        return _lay_out(self)


class _Edge(NamedTuple):
    name: str
    place: int
    """Index of the edge's block in the network."""


class _Layout(NamedTuple):
    """The network of the space whose edges all have the first candidate."""

    blocks: tuple[Block, ...]
    inputs: Inputs
    edges: tuple[_Edge, ...]


def inner_widths(space: TreeSpace) -> list[int]:
    """Return the widths inside the cells: evenly spaced, rounded, then made even."""
    base, last = space.base_width / EXPANSION, space.last_width / EXPANSION
    count = sum(space.cells)
    grown = (base + (last - base) * number / count for number in range(1, count + 1))
    return [max(GROUPED, int(width + 0.5) // GROUPED * GROUPED) for width in grown]


GROUPED = 2
"""Divisor of all widths, as the convolution at the root of a cell has two groups."""


def _lay_out(space: TreeSpace) -> _Layout:
    net, edges = GraphBuilder(), list[_Edge]()
    channels, size = space.input_shape[0], size_of(*space.input_shape[1:])
    place = net.add(Block("conv_bn", channels, space.stem_width, 3, 1, 1, size), IMAGE)
    widths = iter(inner_widths(space))
    for stage, depth in enumerate(space.cells):
        for number in range(depth):
            stride = 2 if stage > 0 and number == 0 else 1
            name = f"stage {stage + 1} cell {number + 1}"
            place = _block(net, edges, name, place, next(widths), stride, space.candidates[0])
    last = net.blocks[place]
    net.add(
        Block("norm_logits", last.out_channels, space.num_classes, 1, 1, 1, last.out_size, "relu"),
        place,
    )
    return _Layout(tuple(net.blocks), tuple(net.inputs), tuple(edges))


def _block(
    net: GraphBuilder,
    edges: list[_Edge],
    name: str,
    source: int,
    width: int,
    stride: int,
    default: str,
) -> int:
    """Add a residual block; return the index of its output."""
    before = net.blocks[source]
    c_in, c_out, size = before.out_channels, EXPANSION * width, before.out_size
    if any(pixels % stride for pixels in axes(size)):
        raise UsageError(f"{name} halves {size_text(size)} px, which is odd")
    if c_out < c_in:
        raise UsageError(f"{name} has {c_in} channels in and {c_out} out: trees only widen")
    out = strided(size, stride)
    inner = net.add(Block("bn_conv", c_in, width, 1, 1, 1, size), source)
    root = net.add(Block("bn_relu_group_conv", width, 2 * width, 3, stride, 1, size, "relu"), inner)
    terms: list[int] = []
    for number, half in enumerate(("first_half", "second_half"), 1):
        branch = net.add(Block(half, 2 * width, width, 1, 1, 1, out), root)
        ends = _branch(net, edges, f"{name} branch {number}", branch, default)
        tree = net.add(Block("add", width, width, 1, 1, len(ends), out), *ends)
        terms += [net.add(Block("identity_bn", width, width, 1, 1, 1, out), tree), branch]
    cell = net.add(Block("add", width, width, 1, 1, len(terms), out), *terms)
    widened = net.add(Block("bn_relu_conv_bn", width, c_out, 1, 1, 1, out, "relu"), cell)
    shortcut = source
    if stride > 1:
        shortcut = net.add(Block("avg_pool", c_in, c_in, stride, stride, 1, size), shortcut)
    if c_in != c_out:
        shortcut = net.add(Block("pad_channels", c_in, c_out, 1, 1, 1, out), shortcut)
    return net.add(Block("add", c_out, c_out, 1, 1, 2, out), shortcut, widened)


def _branch(
    net: GraphBuilder, edges: list[_Edge], name: str, branch: int, default: str
) -> list[int]:
    """Add the six edges of a branch in depth-first order; return the four ends."""

    def edge(where: str, source: int) -> int:
        before = net.blocks[source]
        block = _edge_block(default, before.out_channels, before.out_size)
        edges.append(_Edge(f"{name} edge {where}", net.add(block, source)))
        return edges[-1].place

    ends: list[int] = []
    for first in (1, 2):
        node = edge(f"{first}", branch)
        ends += [edge(f"{first}.{second}", node) for second in (1, 2)]
    return ends


def _edge_block(candidate: str, channels: int, size: Size) -> Block:
    op, kernel_size = EDGES[candidate]
    activation = "relu" if op.startswith("bn_relu") else "relu6"
    return Block(op, channels, channels, kernel_size, 1, 1, size, activation)
