"""Writes the compiler's graph as TFLite: NHWC, activations fused, no TRANSPOSE.

Weights are transposed when written: convolutions to ``[O, h, w, I]``, depthwise ones to
``[1, h, w, C]``. PyTorch's padding is the same at both sides, TFLite's SAME puts less before than
after; where the two differ there is an explicit PAD.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.export.nodes import (
    INPUT,
    OUTPUT,
    Activation,
    Arithmetic,
    Concat,
    Conv,
    Flatten,
    Graph,
    Linear,
    Node,
    Pool,
    Slice,
    WindowPool,
    Zeros,
)
from hwnas.export.tflite_buffers import Flatbuffer
from hwnas.export.tflite_padding import amounts, counts, is_same


def write_tflite(
    graph: Graph,
    path: Path,
    *,
    schema_version: int = 3,
    notes: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model with input ``images`` ``[1, H, W, C]`` and output ``logits`` (NHWC if 4-D).

    The same graph gives the same bytes. It has the signature ``serving_default``. ``notes`` become
    metadata.
    """
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.write(node)
    for name, said in (notes or {}).items():
        writer.file.note(name, said)
    path.write_bytes(writer.file.packed(schema_version, INPUT, OUTPUT))


def _nhwc(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


class _Writer:
    """Adds each node's operators to the file; a value is called as in the graph."""

    def __init__(self, graph: Graph) -> None:
        self.file = Flatbuffer()
        self.file.tensor(INPUT, _nhwc((1, *graph.input_shape)))

    @singledispatchmethod
    def write(self, node: Node) -> None:
        raise TypeError(f"no way to write {type(node).__name__} as TFLite")

    @write.register
    def _conv(self, node: Conv) -> None:
        value, padding = self._padded(node, node.weight.shape[2:])
        weight = (
            node.weight.transpose(1, 2, 3, 0)
            if node.depthwise
            else node.weight.transpose(0, 2, 3, 1)
        )
        options: dict[str, Any] = {"depthMultiplier": 1} if node.depthwise else {}
        self.file.operator(
            "DEPTHWISE_CONV_2D" if node.depthwise else "CONV_2D",
            "DepthwiseConv2DOptions" if node.depthwise else "Conv2DOptions",
            (
                value,
                self._constant(node, "weight", weight),
                self._constant(node, "bias", node.bias),
            ),
            self._output(node),
            version=2 if node.depthwise and node.dilation != (1, 1) else 1,
            padding=padding,
            strideH=node.stride[0],
            strideW=node.stride[1],
            dilationHFactor=node.dilation[0],
            dilationWFactor=node.dilation[1],
            fusedActivationFunction=_FUSED[node.fused],
            **options,
        )

    @write.register
    def _linear(self, node: Linear) -> None:
        weight = self._constant(node, "weight", node.weight)
        self.file.operator(
            "FULLY_CONNECTED",
            "FullyConnectedOptions",
            (*node.inputs, weight, self._constant(node, "bias", node.bias)),
            self._output(node),
            fusedActivationFunction=_FUSED[node.fused],
        )

    @write.register
    def _arithmetic(self, node: Arithmetic) -> None:
        self.file.operator(
            node.op.upper(),
            {"add": "AddOptions", "mul": "MulOptions"}[node.op],
            node.inputs,
            self._output(node),
            fusedActivationFunction=_FUSED[node.fused],
        )

    @write.register
    def _activation(self, node: Activation) -> None:
        if node.op == "hardsigmoid":
            self._hardsigmoid(node)
        elif node.op == "hardswish":
            self.file.operator("HARD_SWISH", "HardSwishOptions", node.inputs, self._output(node))
        else:
            ops = {"relu": "RELU", "relu6": "RELU6", "sigmoid": "LOGISTIC"}
            self.file.operator(ops[node.op], None, node.inputs, self._output(node))

    def _hardsigmoid(self, node: Activation) -> None:
        """``relu6(x + 3) / 6``, as there is no such builtin."""
        three = self.file.constant("three", np.array([3], np.float32))
        sixth = self.file.constant("sixth", np.array([1 / 6], np.float32))
        shifted = self.file.tensor(f"{node.name}.shifted", _nhwc(node.shape))
        self.file.operator(
            "ADD",
            "AddOptions",
            (*node.inputs, three),
            shifted,
            fusedActivationFunction=_FUSED["relu6"],
        )
        self.file.operator("MUL", "MulOptions", (shifted, sixth), self._output(node))

    @write.register
    def _pool(self, node: Pool) -> None:
        axes = self.file.constant("height and width", np.array([1, 2], np.int32))
        keep = len(node.shape) == 4
        self.file.operator(
            "MEAN", "ReducerOptions", (*node.inputs, axes), self._output(node), keepDims=keep
        )

    @write.register
    def _flatten(self, node: Flatten) -> None:
        shape = self._constant(node, "shape", np.array(node.shape, np.int32))
        self.file.operator(
            "RESHAPE",
            "ReshapeOptions",
            (*node.inputs, shape),
            self._output(node),
            newShape=list(node.shape),
        )

    @write.register
    def _window_pool(self, node: WindowPool) -> None:
        """TFLite's pools leave padding out, but only where SAME puts it: see `_padded`."""
        value, padding = self._padded(node, node.size, fill=_LOWEST if node.op == "max" else 0.0)
        partial = node.op == "mean" and value != node.inputs[0]
        output = f"{node.name}.sums" if partial else node.name
        self.file.operator(
            {"max": "MAX_POOL_2D", "mean": "AVERAGE_POOL_2D"}[node.op],
            "Pool2DOptions",
            (value,),
            self.file.tensor(output, _nhwc(node.shape)),
            padding=padding,
            strideH=node.stride[0],
            strideW=node.stride[1],
            filterHeight=node.size[0],
            filterWidth=node.size[1],
        )
        if partial:
            self._recount(node, output)

    def _recount(self, node: WindowPool, means: str) -> None:
        """Zeros that were added explicitly have been counted: scale to the means of the others."""
        sizes = self.file.shapes[node.inputs[0]][1:3]
        known = [counts(*axis) for axis in zip(sizes, *_axes(node, node.size), strict=True)]
        scale = node.size[0] * node.size[1] / np.outer(*known)
        scale = self._constant(node, "scale", scale[None, :, :, None].astype(np.float32))
        self.file.operator("MUL", "MulOptions", (means, scale), self._output(node))

    @write.register
    def _slice(self, node: Slice) -> None:
        shape = _nhwc(node.shape)
        begin = self._constant(node, "begin", np.array((0, *node.begin, 0), np.int32))
        size = self._constant(node, "size", np.array(shape, np.int32))
        self.file.operator("SLICE", "SliceOptions", (*node.inputs, begin, size), self._output(node))

    @write.register
    def _concat(self, node: Concat) -> None:
        axis = len(node.shape) - 1
        self.file.operator(
            "CONCATENATION", "ConcatenationOptions", node.inputs, self._output(node), axis=axis
        )

    @write.register
    def _zeros(self, node: Zeros) -> None:
        self.file.value(node.name, np.zeros(_nhwc(node.shape), np.float32))

    def _padded(
        self, node: Conv | WindowPool, window: tuple[int, int], fill: float = 0.0
    ) -> tuple[str, int]:
        """Return the value to slide over and TFLite's padding that together are PyTorch's."""
        if node.padding == (0, 0):
            return node.inputs[0], _VALID
        _, height, width, channels = self.file.shapes[node.inputs[0]]
        axes = list(zip((height, width), *_axes(node, window), strict=True))
        if all(is_same(*axis) for axis in axes):
            return node.inputs[0], _SAME
        if isinstance(node, Conv):
            # in full, though a stride may never reach the end: latency tables were measured so
            rows, columns = ((added, added) for added in node.padding)
        else:
            rows, columns = (amounts(*axis) for axis in axes)
        shape = (1, height + sum(rows), width + sum(columns), channels)
        padded = self.file.tensor(f"{node.name}.padded", shape)
        paddings = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
        inputs = node.inputs[0], self._constant(node, "padding", paddings)
        if fill:
            fill_value = self.file.constant(f"fill {fill}", np.array([fill], np.float32))
            self.file.operator("PADV2", "PadV2Options", (*inputs, fill_value), padded)
        else:
            self.file.operator("PAD", "PadOptions", inputs, padded)
        return padded, _VALID

    def _output(self, node: Node) -> str:
        return self.file.tensor(node.name, _nhwc(node.shape))

    def _constant(self, node: Node, what: str, values: Any) -> str:
        return self.file.constant(f"{node.name}.{what}", values)


_SAME, _VALID = 0, 1
_FUSED = {None: 0, "relu": 1, "relu6": 3}
"""Numbers of the schema's enums ``Padding`` and ``ActivationFunctionType``."""

_LOWEST = float(np.finfo(np.float32).min)
"""What a maximum never is, unless all are."""


def _axes(node: Conv | WindowPool, window: tuple[int, int]) -> Iterator[tuple[int, ...]]:
    """Yield padding, window, stride and dilation, each of (height, width)."""
    yield from (node.padding, window, node.stride)
    yield node.dilation if isinstance(node, Conv) else (1, 1)
