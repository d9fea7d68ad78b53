"""What the operators of a TFLite file are written with: names, NHWC, padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas.export.graph.nodes import INPUT, Conv, Graph, Node, WindowPool
from hwnas.export.tflite.flatbuffer import Flatbuffer
from hwnas.export.tflite.flatten_order import flat_orders
from hwnas.export.tflite.padding import amounts, is_same

SAME, VALID = 0, 1
FUSED = {None: 0, "relu": 1, "relu6": 3}
"""Numbers of the schema's enums ``Padding`` and ``ActivationFunctionType``."""


class Writer:
    """The file in the making; a value is called as in the graph."""

    def __init__(self, graph: Graph) -> None:
        self.file = Flatbuffer()
        self.file.tensor(INPUT, nhwc((1, *graph.input_shape)))
        self.flat = flat_orders(graph)
        """Values that are flat in the order of NHWC."""

    def padded(
        self, node: Conv | WindowPool, window: tuple[int, int], fill: float = 0.0
    ) -> tuple[str, int]:
        """Return the value to slide over and TFLite's padding that together are PyTorch's."""
        if not np.any(node.padding):
            return node.inputs[0], VALID
        _, height, width, channels = self.file.shapes[node.inputs[0]]
        axes = list(zip((height, width), *axes_of(node, window), strict=True))
        counted = isinstance(node, WindowPool) and node.counts_padding
        if not counted and all(is_same(*axis) for axis in axes):
            return node.inputs[0], SAME
        if isinstance(node, Conv):
            # in full, though a stride may never reach the end: latency tables were measured so
            rows, columns = node.padding
        else:
            rows, columns = (amounts(*axis) for axis in axes)
        shape = (1, height + sum(rows), width + sum(columns), channels)
        padded = self.file.tensor(f"{node.name}.padded", shape)
        paddings = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
        inputs = node.inputs[0], self.constant(node, "padding", paddings)
        self.margin(inputs, padded, fill)
        return padded, VALID

    def margin(self, inputs: tuple[str, ...], output: str, fill: float) -> None:
        if fill:
            value = self.file.constant(f"fill {fill}", np.array([fill], np.float32))
            self.file.operator("PADV2", "PadV2Options", (*inputs, value), output)
        else:
            self.file.operator("PAD", "PadOptions", inputs, output)

    def output(self, node: Node) -> str:
        return self.file.tensor(node.name, nhwc(node.shape))

    def constant(self, node: Node, what: str, values: Any) -> str:
        return self.file.constant(f"{node.name}.{what}", values)


def nhwc(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is said of each axis in TFLite's order of axes."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def place(axis: int) -> int:
    """Return where PyTorch's axis of four is in TFLite."""
    return (0, 3, 1, 2)[axis]


def axes_of(node: Conv | WindowPool, window: tuple[int, int]) -> Iterator[tuple[Any, ...]]:
    """Yield padding, window, stride and dilation, each of (height, width)."""
    yield from (node.padding, window, node.stride)
    yield node.dilation if isinstance(node, Conv) else (1, 1)
