"""Writes the compiler's graph as TFLite: NHWC, activations fused, no TRANSPOSE.

Weights are transposed when written: convolutions to ``[O, h, w, I]``, depthwise ones to
``[1, h, w, C]``. PyTorch's padding is the same at both sides, TFLite's SAME puts less before than
after; where the two differ there is an explicit PAD.
"""

from __future__ import annotations

from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.export.nodes import (
    INPUT,
    OUTPUT,
    Activation,
    Arithmetic,
    Conv,
    Flatten,
    Graph,
    Linear,
    Node,
    Pool,
)
from hwnas.export.tflite_buffers import Flatbuffer


def write_tflite(graph: Graph, path: Path, *, schema_version: int = 3) -> None:
    """Write a model with input ``images`` ``[1, H, W, C]`` and output ``logits`` (NHWC if 4-D).

    The same graph gives the same bytes. It has the signature ``serving_default``.
    """
    writer = _Writer(graph)
    for node in graph.nodes:
        writer.write(node)
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
        value, padding = self._padded(node)
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

    def _padded(self, node: Conv) -> tuple[str, int]:
        """Return the value to convolve and TFLite's padding that together are ``node.padding``."""
        if node.padding == (0, 0):
            return node.inputs[0], _VALID
        height, width = self.file.shapes[node.inputs[0]][1:3]
        if all(
            _is_same(size, *axis)
            for size, axis in zip(
                (height, width),
                zip(node.padding, node.weight.shape[2:], node.stride, node.dilation, strict=True),
                strict=True,
            )
        ):
            return node.inputs[0], _SAME
        return self._pad(node, height, width), _VALID

    def _pad(self, node: Conv, height: int, width: int) -> str:
        (vertical, horizontal), channels = node.padding, self.file.shapes[node.inputs[0]][3]
        amounts = np.array([[0, 0], [vertical] * 2, [horizontal] * 2, [0, 0]], np.int32)
        shape = (1, height + 2 * vertical, width + 2 * horizontal, channels)
        padded = self.file.tensor(f"{node.name}.padded", shape)
        inputs = node.inputs[0], self._constant(node, "padding", amounts)
        self.file.operator("PAD", "PadOptions", inputs, padded)
        return padded

    def _output(self, node: Node) -> str:
        return self.file.tensor(node.name, _nhwc(node.shape))

    def _constant(self, node: Node, what: str, values: Any) -> str:
        return self.file.constant(f"{node.name}.{what}", values)


_SAME, _VALID = 0, 1
_FUSED = {None: 0, "relu": 1, "relu6": 3}
"""Numbers of the schema's enums ``Padding`` and ``ActivationFunctionType``."""


def _is_same(size: int, padding: int, kernel: int, stride: int, dilation: int) -> bool:
    """Whether ``padding`` at both sides is what TFLite's SAME adds along this axis."""
    steps = -(-size // stride)
    return max((steps - 1) * stride + (kernel - 1) * dilation + 1 - size, 0) == 2 * padding
