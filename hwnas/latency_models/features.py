"""Features of blocks: what they compute and move, and their shapes.

`resources` are amounts that add up, so that a linear combination of them is a latency: operators
started, multiply-accumulates of dense and of depthwise convolutions, elements of feature maps read
and written, weights read. `shape` are coordinates in which neighbouring blocks behave alike:
logarithms of channels, size and kernel, and flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log2
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.block import Block
from hwnas.architecture.kernels import Kernel
from hwnas.architecture.size import area

Floats = NDArray[np.float64]

RESOURCES = ("operators", *(name for name in Kernel._fields if name != "norm_params"))
"""Columns of `resources`; all but the first in millions."""

SHAPE_GROUPS = ("channels", "size", "kernel", "flags", "hidden")
"""Groups of coordinates with a common length scale in the kernel over `shapes`.

``hidden``, the width inside a block, is not part of ``channels``: blocks with and without expansion
have different costs at the same outer width.
"""


def resources(blocks: Sequence[Block]) -> Floats:
    """Return ``[B, J]``: the amounts of each block, in the columns of `RESOURCES`."""
    rows = np.zeros((len(blocks), len(RESOURCES)))
    for row, block in zip(rows, blocks, strict=True):
        row[0] = len(block.kernels)
        for number, name in enumerate(RESOURCES[1:], 1):
            row[number] = sum(getattr(kernel, name) for kernel in block.kernels) / 1e6
    return rows


def shapes(blocks: Sequence[Block]) -> tuple[Floats, NDArray[np.intp]]:
    """Return coordinates ``[B, D]`` and the group (index into `SHAPE_GROUPS`) of each column."""
    names = sorted({_name(block) for block in blocks})
    rows = [_shape(block, names) for block in blocks]
    groups = [0, 0, 4, 1, 2, 2, *([3] * (6 + len(names)))]
    return np.array(rows, dtype=float).reshape(len(rows), len(groups)), np.array(groups)


def unsupported(blocks: Iterable[Block], known: Iterable[Block]) -> list[str]:
    """Return the features of ``blocks`` that no block of ``known`` has, e.g. ``mbconv kernel 7``.

    The cost of such a block cannot be predicted: it may be ten times that of similar blocks, as
    depthwise 7x7 convolutions are on some runtimes.
    """
    seen = {value for block in known for value in _values(block)}
    missing = dict.fromkeys(
        value for block in blocks for value in _values(block) if value not in seen
    )
    return list(missing)


def _values(block: Block) -> list[str]:
    if block.is_free:
        return []
    values = [f"{block.op} kernel {block.kernel_size}", f"{block.op} stride {block.stride}"]
    if block.squeeze_excite:
        values.append("squeeze-excite")
    if block.groups > 1:
        values.append("groups")
    if block.start_kernel_size:
        values.append(f"start kernel {block.start_kernel_size}")
    if block.precision == "int8":
        values.append("int8")
    return [
        *values,
        {"hswish": "h-swish", "silu": "SiLU", "gelu": "GELU"}.get(block.activation, "ReLU"),
    ]


def _name(block: Block) -> str:
    """Return what tells a block from those of another kind; each fixed piece is its own kind."""
    return block.piece or block.op


def _shape(block: Block, names: Sequence[str]) -> list[float]:
    flags = [
        block.stride - 1,
        block.residual,
        block.squeeze_excite,
        {"hswish": 1, "silu": 2, "gelu": 3}.get(block.activation, 0),
        block.precision == "int8",
        log2(block.groups),
    ]
    return [
        log2(max(block.in_channels, 1)),
        log2(max(block.out_channels, 1)),
        log2(max(block.mid_channels, 1)),
        log2(max(area(block.in_size if block.spec.pools_globally else block.out_size), 1)),
        1.5 * log2(block.kernel_size),
        1.5 * log2(max(block.start_kernel_size, 1)),
        *(2.0 * flag for flag in flags),
        *(2.0 * (_name(block) == name) for name in names),
    ]


def shares(amounts: Floats, weights: Floats) -> Floats:
    """Return ``[B, J]``: the share of each resource in ``amounts @ weights``."""
    parts = amounts * weights
    total = parts.sum(axis=1, keepdims=True)
    return cast(Any, np.divide(parts, total, out=np.zeros_like(parts), where=total > 0))
