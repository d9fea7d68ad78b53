"""From a genotype of cells to the blocks and the graph of a network.

The stacking of DARTS (Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055): every cell takes the
outputs of the two cells before it, each preprocessed to its own width; the cells at a third and at
two thirds of the depth halve the size and double the width. There are two stems: for small images
a single convolution, whose output is both inputs of the first cell; for large images three
convolutions of stride 2; the outputs of the second and the third are the inputs of the first cell.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.architecture.graph import IMAGE, Inputs
from hwnas.architecture.size import Size, axes, size_of, size_text, strided
from hwnas.errors import UsageError
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import CELL_INPUTS, Cell, CellGenotype, Edge

Stem = Literal["cifar", "imagenet"]
Norm = Literal["none", "pool", "pool and skip"]
"""The operations without weights that end in a batch norm; in the final networks of DARTS there are
none."""


class Stack(NamedTuple):
    """Everything that decides a network of cells apart from the cells."""

    input_shape: tuple[int, int, int]
    num_classes: int
    channels: int
    """Width of the nodes in the first cell."""
    layers: int
    """Number of cells."""
    stem: Stem
    norm: Norm


class StackSize(msgspec.Struct, frozen=True):
    """Depth and width of a network of cells."""

    layers: int
    """Number of cells."""
    channels: int
    """Width of the nodes in the first cell."""

    def __str__(self) -> str:
        return f"{self.layers} cells of {self.channels} channels"


class CellPlace(NamedTuple):
    """A cell of the stack, with the blocks that bring its inputs to its width."""

    reduction: bool
    channels: int
    in_size: Size
    preprocess: tuple[Block, Block]

    @property
    def out_size(self) -> Size:
        return strided(self.in_size, 2) if self.reduction else self.in_size


class Layout(NamedTuple):
    """A network of cells."""

    blocks: tuple[Block, ...]
    inputs: Inputs
    outputs: tuple[int, ...]
    """Indices of the blocks that are the outputs of the cells."""
    names: tuple[str, ...]
    """Name of each block's module in the supernet (`hwnas.nn.cells.supernet`); empty if it has
    none."""
    cells: tuple[int | None, ...]
    """Number of the cell of each block, None for stem and head."""
    edges: tuple[int | None, ...]
    """Index of the genotype's edge for each block, normal cell first; None for other blocks."""


def lay_out(stack: Stack, genotype: CellGenotype) -> Layout:
    """Stack the cells. Raises `UsageError` where an odd size would have to be halved."""
    net = GraphBuilder()
    stem = stem_blocks(stack)
    before = [net.add(block, n - 1, name=f"stem.{n}") for n, block in enumerate(stem)]
    # the last two outputs are s0 and s1 of the next cell
    states = (before[-1], before[-1]) if stack.stem == "cifar" else (before[-2], before[-1])
    outputs: list[int] = []
    width = len(genotype.normal.concat), len(genotype.reduction.concat)
    for number, place in enumerate(cell_places(stack, *width)):
        cell = genotype.reduction if place.reduction else genotype.normal
        net.cell, net.edge = number, len(genotype.normal.edges) if place.reduction else 0
        outputs.append(_cell(net, f"cells.{number}", place, cell, states, stack.norm))
        states = (states[1], outputs[-1])
    net.cell, last = None, net.blocks[states[1]]
    head = logits_block(last.out_channels, last.out_size, stack.num_classes)
    net.add(head, states[1], name="head")
    return net.layout(outputs)


def stem_blocks(stack: Stack) -> tuple[Block, ...]:
    channels, size = stack.input_shape[0], size_of(*stack.input_shape[1:])
    if stack.stem == "cifar":
        return (Block("conv_bn", channels, 3 * stack.channels, 3, 1, 1, size),)
    half, full = stack.channels // 2, stack.channels
    first = Block("conv", channels, half, 3, 2, 1, size, "relu")
    second = Block("conv_bn", half, full, 3, 2, 1, first.out_size)
    return first, second, Block("relu_conv_bn", full, full, 3, 2, 1, second.out_size, "relu")


def cell_places(stack: Stack, normal_width: int, reduction_width: int) -> list[CellPlace]:
    """Return the cells in order, given the number of nodes that each kind concatenates."""
    stem = stem_blocks(stack)
    first = stem[-1] if stack.stem == "cifar" else stem[-2]
    s0, s1 = (first.out_channels, first.out_size), (stem[-1].out_channels, stem[-1].out_size)
    channels, places = stack.channels, list[CellPlace]()
    for layer in range(stack.layers):
        reduction = layer in (stack.layers // 3, 2 * stack.layers // 3)
        channels = 2 * channels if reduction else channels
        for size in (s0[1],) if s0[1] != s1[1] else (s1[1],) if reduction else ():
            if any(pixels % 2 for pixels in axes(size)):
                images = size_text(size_of(*stack.input_shape[1:]))
                raise UsageError(
                    f"cell {layer + 1} of {stack.layers} halves {size_text(size)} px, which is odd "
                    f"(images of {images} px)"
                )
        preprocess = (
            _half(s0[0], channels, s0[1]) if s0[1] != s1[1] else _pre(s0[0], channels, s0[1]),
            _pre(s1[0], channels, s1[1]),
        )
        place = CellPlace(reduction, channels, s1[1], preprocess)
        places.append(place)
        width = reduction_width if reduction else normal_width
        s0, s1 = s1, (width * channels, place.out_size)
    return places


def edge_block(edge: Edge, place: CellPlace, norm: Norm) -> Block:
    """Return the block of an edge in a cell: stride 2 on the inputs of a reduction cell."""
    outer = edge.source < CELL_INPUTS
    stride = 2 if place.reduction and outer else 1
    size = place.in_size if outer else place.out_size
    channels = place.channels
    if edge.op == "skip_connect":
        if stride == 2:
            return _half(channels, channels, size)
        op = "identity_bn" if norm == "pool and skip" else "identity"
        return Block(op, channels, channels, 1, 1, 1, size)
    op, kernel_size, relu = _EDGE_OPS[edge.op]
    if op in ("max_pool", "avg_pool") and norm != "none":
        op += "_bn"
    activation = "relu" if relu else "relu6"
    return Block(op, channels, channels, kernel_size, stride, 1, size, activation)


def zero_block(place: CellPlace) -> Block:
    """Return the output of a node without inputs."""
    stride = 2 if place.reduction else 1
    return Block("none", place.channels, place.channels, 1, stride, 1, place.in_size)


def add_block(arity: int, place: CellPlace) -> Block:
    return Block("add", place.channels, place.channels, 1, 1, arity, place.out_size)


def concat_block(arity: int, place: CellPlace) -> Block:
    return Block("concat", place.channels, arity * place.channels, 1, 1, arity, place.out_size)


def logits_block(channels: int, size: Size, num_classes: int) -> Block:
    return Block("logits", channels, num_classes, 1, 1, 1, size)


def _pre(c_in: int, c_out: int, size: Size) -> Block:
    return Block("relu_conv_bn", c_in, c_out, 1, 1, 1, size, "relu")


def _half(c_in: int, c_out: int, size: Size) -> Block:
    return Block("factorized_reduce", c_in, c_out, 1, 2, 1, size, "relu")


def _cell(
    net: GraphBuilder,
    name: str,
    place: CellPlace,
    cell: Cell,
    states: tuple[int, int],
    norm: Norm,
) -> int:
    nodes = [
        net.add(block, state, name=f"{name}.preprocess.{n}")
        for n, (block, state) in enumerate(zip(place.preprocess, states, strict=True))
    ]
    # the zeros of an empty node take their shape from an input that is used anyway
    used = next(edge.source for edge in cell.edges if edge.source < CELL_INPUTS)
    for node, edges in enumerate(cell.nodes):
        terms = [
            net.add_edge(
                edge_block(edge, place, norm),
                nodes[edge.source],
                f"{name}.edges.{edge_count(node) + edge.source}.ops.{edge.op}",
            )
            for edge in edges
        ]
        if not terms:
            terms = [net.add(zero_block(place), nodes[used])]
        several = len(terms) > 1
        nodes.append(net.add(add_block(len(terms), place), *terms) if several else terms[0])
    outputs = [nodes[node] for node in cell.concat]
    return net.add(concat_block(len(outputs), place), *outputs) if len(outputs) > 1 else outputs[0]


class GraphBuilder:
    """Collects the blocks of a network and their inputs."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.inputs: list[tuple[int, ...]] = []
        self.names: list[str] = []
        self.cells: list[int | None] = []
        self.edges: list[int | None] = []
        self.cell: int | None = None
        """Number of the cell that is being added."""
        self.edge = 0
        """Index of the genotype's next edge."""

    def add(self, block: Block, *sources: int, name: str = "") -> int:
        self.blocks.append(block)
        self.inputs.append(sources)
        self.names.append(name)
        self.cells.append(self.cell)
        self.edges.append(None)
        return len(self.blocks) - 1

    def add_edge(self, block: Block, source: int, name: str) -> int:
        index = self.add(block, source, name=name)
        self.edges[index] = self.edge
        self.edge += 1
        return index

    def layout(self, outputs: list[int]) -> Layout:
        """Return the blocks that the last one depends on; unused blocks are dropped."""
        needed = {len(self.blocks) - 1}
        for index in reversed(range(len(self.blocks))):
            if index in needed:
                needed.update(self.inputs[index])
        used = [index for index in range(len(self.blocks)) if index in needed]
        new = {IMAGE: IMAGE, **{index: number for number, index in enumerate(used)}}
        return Layout(
            tuple(self.blocks[index] for index in used),
            tuple(tuple(new[source] for source in self.inputs[index]) for index in used),
            tuple(new[index] for index in outputs if index in new),
            tuple(self.names[index] for index in used),
            tuple(self.cells[index] for index in used),
            tuple(self.edges[index] for index in used),
        )


_EDGE_OPS = {
    "max_pool_3x3": ("max_pool", 3, False),
    "avg_pool_3x3": ("avg_pool", 3, False),
    "sep_conv_3x3": ("sep_conv", 3, True),
    "sep_conv_5x5": ("sep_conv", 5, True),
    "sep_conv_7x7": ("sep_conv", 7, True),
    "dil_conv_3x3": ("dil_conv", 3, True),
    "dil_conv_5x5": ("dil_conv", 5, True),
    "conv_7x1_1x7": ("conv_7x1_1x7", 7, True),
}
"""Operation, kernel size, and whether ReLU comes first."""
