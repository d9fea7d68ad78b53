"""Windows of convolutions and pools: sizes, strides, and the padding at both ends of each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode

Ends = list[tuple[int, int]]
"""Elements at the begin and the end of each axis."""


class Window(NamedTuple):
    """Where windows lie, by axis of height and width."""

    sizes: list[int]
    strides: list[int]
    dilations: list[int]
    sides: Ends
    counts: list[int]
    """Number of windows."""

    @property
    def reaches(self) -> list[int]:
        """Elements from the first to the last of a window."""
        return [gap * (size - 1) + 1 for size, gap in zip(self.sizes, self.dilations, strict=True)]


def window(node: OnnxNode, pixels: Sequence[int], sizes: list[int]) -> Window:
    """Return the windows of a node on ``pixels``; a pool's may begin in the added end."""
    ones = [1] * len(sizes)
    strides, dilations = node.integers("strides", ones), node.integers("dilations", ones)
    stated = node.integers("pads", [0] * (2 * len(sizes)))
    mode, ceil = node.text("auto_pad", "NOTSET"), node.integer("ceil_mode", 0)
    sides: Ends = []
    counts: list[int] = []
    for axis, size in enumerate(pixels):
        reach, stride = dilations[axis] * (sizes[axis] - 1) + 1, strides[axis]
        before, after = stated[axis], stated[axis + len(sizes)]
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
            after = total - before
        elif mode == "VALID":
            before = after = 0
        rest = size + before + after - reach
        count = (-(-rest // stride) if ceil else rest // stride) + 1
        if ceil and (count - 1) * stride >= size + before:
            count -= 1
        sides.append((before, after))
        counts.append(count)
    return Window(sizes, strides, dilations, sides, counts)


def padded(x: Tensor, sides: Ends, value: float) -> Tensor:
    """Pad the last axes with ``value``; negative amounts cut off."""
    if not any(before or after for before, after in sides):
        return x
    return F.pad(x, [amount for side in reversed(sides) for amount in side], value=value)
