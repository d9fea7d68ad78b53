"""A block in physical terms: what it computes and moves, and what it looks like.

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

from hwnas.architecture.kernels import Kernel
from hwnas.architecture.ops import Block

Floats = NDArray[np.float64]

RESOURCES = ("operators", *(name for name in Kernel._fields if name != "norm_params"))
"""Columns of `resources`; all but the first in millions."""

SHAPE_GROUPS = ("channels", "size", "kernel", "flags", "hidden")
"""What has a length scale of its own in the kernel over `shape`.

``hidden``, the width inside a block, is not one of ``channels``: a block that does not expand is
another thing than one that does, and of the same width outside.
"""


def resources(blocks: Sequence[Block]) -> Floats:
    """Return ``[B, J]``: what each block takes, in the columns of `RESOURCES`."""
    rows = np.zeros((len(blocks), len(RESOURCES)))
    for row, block in zip(rows, blocks, strict=True):
        row[0] = len(block.kernels)
        for number, name in enumerate(RESOURCES[1:], 1):
            row[number] = sum(getattr(kernel, name) for kernel in block.kernels) / 1e6
    return rows


def shapes(blocks: Sequence[Block]) -> tuple[Floats, NDArray[np.intp]]:
    """Return coordinates ``[B, D]`` and the group (index into `SHAPE_GROUPS`) of each column."""
    names = sorted({block.op for block in blocks})
    rows = [_shape(block, names) for block in blocks]
    groups = [0, 0, 4, 1, 2, *([3] * (5 + len(names)))]
    return np.array(rows, dtype=float).reshape(len(rows), len(groups)), np.array(groups)


def unsupported(asked: Iterable[Block], known: Iterable[Block]) -> list[str]:
    """Say which values of ``asked`` occur in no block of ``known``, e.g. ``mbconv kernel 7``.

    Such a block is a blind spot: its cost may be ten times that of its neighbours (depthwise 7x7
    on some runtimes), and nothing measured can tell.
    """
    seen = {value for block in known for value in _values(block)}
    missing = dict.fromkeys(
        value for block in asked for value in _values(block) if value not in seen
    )
    return list(missing)


def _values(block: Block) -> list[str]:
    if block.is_free:
        return []
    values = [f"{block.op} kernel {block.kernel_size}", f"{block.op} stride {block.stride}"]
    if block.squeeze_excite:
        values.append("squeeze-excite")
    if block.precision == "int8":
        values.append("int8")
    return [*values, "h-swish" if block.activation == "hswish" else "ReLU"]


def _shape(block: Block, names: Sequence[str]) -> list[float]:
    flags = [
        block.stride - 1, block.residual, block.squeeze_excite, block.activation == "hswish",
        block.precision == "int8",
    ]  # fmt: skip
    return [
        log2(max(block.in_channels, 1)),
        log2(max(block.out_channels, 1)),
        log2(max(block.mid_channels, 1)),
        2 * log2(max(block.in_size if block.spec.pools_globally else block.out_size, 1)),
        1.5 * log2(block.kernel_size),
        *(2.0 * flag for flag in flags),
        *(2.0 * (block.op == name) for name in names),
    ]


def shares(amounts: Floats, weights: Floats) -> Floats:
    """Return ``[B, J]``: which share of ``amounts @ weights`` each resource has."""
    parts = amounts * weights
    total = parts.sum(axis=1, keepdims=True)
    return cast(Any, np.divide(parts, total, out=np.zeros_like(parts), where=total > 0))
