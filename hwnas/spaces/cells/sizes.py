"""Cells that are searched in a small network and delivered in a larger one, as in DARTS.

Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, section 3: cells are searched in 8 cells of 16
channels; the networks that are trained have 20 cells of 36 channels for CIFAR-10 and 14 of 48 for
ImageNet. The name of such a space has the size of its networks: ``cells-20x36``.
"""

from __future__ import annotations

import re

import msgspec

from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.space import MAX_SMALL_INPUT_PX, CellSpace, cell_space

SEARCH_SIZE = StackSize(8, 16)
"""Size of the search net in the papers of DARTS, PC-DARTS and ISTA-NAS."""
SMALLER = (
    *((20, channels) for channels in (32, 28, 24, 20)),
    *((14, channels) for channels in (20, 18, 16)),
    (11, 16),
    *((8, channels) for channels in (16, 14, 12, 10, 8)),
    (5, 8),
)
"""Cells and channels of networks for budgets that the paper's networks exceed. Each size has 0.6 to
0.8 of the MACs of the previous one, so that the latencies of neighbouring sizes overlap."""

_NAME = re.compile(r"(cells|cells-norm)-(\d+)x(\d+)")


def sized_name(name: str, size: StackSize) -> str:
    """Return the name of the space ``cells`` or ``cells-norm`` with networks of a size."""
    return f"{name}-{size.layers}x{size.channels}"


def unsized_name(name: str) -> str:
    """Return the name of a space without the size of its networks."""
    match = _NAME.fullmatch(name)
    return match[1] if match else name


def sized_cells(name: str, input_shape: tuple[int, int, int], num_classes: int) -> CellSpace | None:
    """Return the space of a name such as ``cells-20x36``; ``None`` for any other name.

    ``cells`` are searched in networks of `SEARCH_SIZE`. ``cells-norm`` are for the one-stage search
    of ISTA-NAS, whose search net becomes the network and so has its size.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    kind, layers, channels = match[1], int(match[2]), int(match[3])
    if kind == "cells-norm":
        space = cell_space(input_shape, num_classes, channels, layers, norm="pool and skip")
        return msgspec.structs.replace(space, name=name)
    space = cell_space(input_shape, num_classes, channels, layers)
    search = cell_space(input_shape, num_classes, SEARCH_SIZE.channels, SEARCH_SIZE.layers)
    size = StackSize(search.layers, search.channels)
    return msgspec.structs.replace(space, name=name, search_size=size)


def paper_size(input_shape: tuple[int, int, int]) -> StackSize:
    """Return the size of the networks that the paper trains: for CIFAR-10, or for ImageNet."""
    is_small = max(input_shape[1:]) <= MAX_SMALL_INPUT_PX
    return StackSize(20, 36) if is_small else StackSize(14, 48)


def network_sizes(input_shape: tuple[int, int, int]) -> list[StackSize]:
    """Return the available sizes of networks, the paper's first and the smallest last."""
    paper = paper_size(input_shape)
    smaller = [StackSize(*size) for size in SMALLER]
    if paper.layers < smaller[0].layers:
        wide = [StackSize(paper.layers, channels) for channels in (42, 36, 32, 28, 24)]
        smaller = [*wide, *(size for size in smaller if size.layers <= paper.layers)]
    return [paper, *smaller]
