"""A TFLite model under construction, in the terms of the compiler's graph: names, NHWC, padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.export.emitters import Emitters
from hwnas.export.graph.nodes import Conv, Node, WindowPool
from hwnas.export.layout.arrange import Arranged
from hwnas.export.stored_weights import WeightOwners, fits_half, int8_weight, is_large
from hwnas.export.tflite.flatbuffer import Flatbuffer
from hwnas.export.tflite.padding import explicit_padding, is_same

DEQUANTIZES_HALF, DEQUANTIZES_CHANNELS = 3, 5
"""First versions of ``DEQUANTIZE`` that take floats of 16 bits, and a scale for each channel."""
SAME, VALID = 0, 1
"""The schema's enum ``Padding``."""
FUSED_ACTIVATION = {None: 0, "relu": 1, "relu6": 3}
"""The schema's enum ``ActivationFunctionType``."""


class TfliteBuilder(Flatbuffer):
    """Collects the operators of one graph, in order; values keep the names of the graph."""

    def __init__(self, graph: Arranged, precision: Precision = "fp32") -> None:
        super().__init__()
        self.precision = precision
        self.owners = WeightOwners()
        self._weight_names: dict[str, str] = {}
        """Tensors of the weights, by the node that they were written for."""
        self.inputs = [self.tensor(spec.name, spec.shape, spec.dtype) for spec in graph.inputs]
        self.outputs = [spec.name for spec in graph.outputs]

    def output(self, node: Node) -> str:
        """Add the tensor that ``node`` computes and return its name."""
        return self.tensor(node.name, node.shape)

    def node_constant(self, node: Node, name: str, values: Any) -> str:
        """Add a constant that belongs to ``node``, such as its bias."""
        return self.constant(f"{node.name}.{name}", values)

    def weight(self, node: Node, values: Any, axis: int) -> str:
        """Add the weight of ``node`` in the bits that the precision of the file states.

        ``axis`` is that of its output channels. LiteRT computes a ``DEQUANTIZE`` of constants once.
        Equal weights of several nodes are written once.
        """
        owner = self.owners.owner(node.name, values, axis)
        if owner not in self._weight_names:
            self._weight_names[owner] = self._stored(owner, values, axis)
        return self._weight_names[owner]

    def dynamic_weight(self, node: Node, values: Any) -> str | None:
        """Add int8 levels ``[O, ...]`` for an operator that rounds its input by its range in a run.

        None unless the precision of the file is that, and the weight is large.
        """
        if self.precision != "int8-dynamic" or not is_large(values):
            return None
        return self._int8(self.owners.owner(node.name, values, 0), values, axis=0)

    def _stored(self, name: str, values: Any, axis: int) -> str:
        if self.precision == "fp16" and fits_half(values):
            half = self.constant(f"{name}.half", values.astype(np.float16))
            return self._dequantized(name, half, DEQUANTIZES_HALF)
        if self.precision in ("int8-weights", "int8-dynamic") and is_large(values):
            return self._dequantized(name, self._int8(name, values, axis), DEQUANTIZES_CHANNELS)
        return self.constant(f"{name}.weight", values)

    def _int8(self, name: str, values: Any, axis: int) -> str:
        levels, scale = int8_weight(values, axis)
        return self.quantized(f"{name}.int8", levels, scale, axis)

    def _dequantized(self, name: str, stored: str, version: int) -> str:
        weight = self.tensor(f"{name}.weight", self.shapes[stored])
        self.operator("DEQUANTIZE", "DequantizeOptions", (stored,), weight, version)
        return weight

    def padded_input(
        self, node: Conv | WindowPool, window: tuple[int, int], fill: float = 0.0
    ) -> tuple[str, int]:
        """Return the input of a window operation and the ``Padding`` that together pad as PyTorch.

        Where neither SAME nor VALID does, the input is padded with ``fill`` explicitly.
        """
        if not np.any(node.padding):
            return node.inputs[0], VALID
        _, height, width, channels = self.shapes[node.inputs[0]]
        axes = list(zip((height, width), *window_axes(node, window), strict=True))
        counts_padding = isinstance(node, WindowPool) and node.counts_padding
        if not counts_padding and all(is_same(*axis) for axis in axes):
            return node.inputs[0], SAME
        if isinstance(node, Conv):
            # in full, even where the stride never reaches the end: latency tables were measured so
            rows, columns = node.padding
        else:
            rows, columns = (explicit_padding(*axis) for axis in axes)
        shape = (1, height + sum(rows), width + sum(columns), channels)
        padded = self.tensor(f"{node.name}.padded", shape)
        paddings = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
        inputs = node.inputs[0], self.node_constant(node, "padding", paddings)
        self.pad(inputs, padded, fill)
        return padded, VALID

    def reshaped(self, value: str, shape: tuple[int, ...], output: str) -> str:
        """Add a RESHAPE of ``value`` to ``shape`` and return its name, ``output``."""
        target = self.constant(f"{output}.shape", np.array(shape, np.int32))
        if output not in self.shapes:
            self.tensor(output, shape)
        inputs = (value, target)
        self.operator("RESHAPE", "ReshapeOptions", inputs, output, newShape=list(shape))
        return output

    def pad(self, inputs: tuple[str, ...], output: str, fill: float) -> None:
        """Add a PAD of zeros, or a PADV2 of another constant."""
        if fill:
            value = self.constant(f"fill {fill}", np.array([fill], np.float32))
            self.operator("PADV2", "PadV2Options", (*inputs, value), output)
        else:
            self.operator("PAD", "PadOptions", inputs, output)

    def serialise(self, schema_version: int) -> Iterator[Any]:
        """Yield the file's bytes in pieces."""
        return self.pack(schema_version, self.inputs, self.outputs)


EMITTERS: Emitters[TfliteBuilder] = Emitters("TFLite")
emits = EMITTERS.emits


def window_axes(node: Conv | WindowPool, window: tuple[int, int]) -> Iterator[tuple[Any, ...]]:
    """Yield padding, window, stride and dilation, each for (height, width)."""
    yield from (node.padding, window, node.stride)
    yield node.dilation if isinstance(node, Conv) else (1, 1)
