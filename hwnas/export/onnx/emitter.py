"""Writes the compiler's graph as ONNX; activations are nodes, which the runtime fuses itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import (
    INPUT,
    OUTPUT,
    Activation,
    Arithmetic,
    Concat,
    Constant,
    Conv,
    ConvTranspose,
    Graph,
    LayerNorm,
    Linear,
    Mean,
    Node,
    Pad,
    Pool,
    Prelu,
    Reshape,
    Resize,
    Shuffle,
    Slice,
    WindowPool,
)
from hwnas.export.onnx.activations import OPS, activate
from hwnas.export.onnx.model_builder import OnnxFile


def write_onnx(
    graph: Graph,
    path: Path,
    *,
    opset: int = 17,
    ir_version: int = 9,
    notes: Mapping[str, bytes] | None = None,
    dynamic_batch: bool = False,
) -> None:
    """Write and check a model with input ``images`` ``[1, C, H, W]`` and output ``logits``.

    ``opset`` is 13 or later; one that needs a later ``ir_version`` gets it. With
    ``dynamic_batch`` the first axis of both is free. The same graph gives the same bytes.
    ``notes`` (UTF-8) become metadata.
    """
    writer = _Writer(OnnxFile(opset, dynamic_batch))
    writer.file.shapes[INPUT] = (1, *graph.input_shape)
    for node in graph.nodes:
        writer.write(node)
        writer.file.shapes[node.name] = node.shape
    shapes = (1, *graph.input_shape), graph.output_shape
    path.write_bytes(writer.file.packed((INPUT, OUTPUT), shapes, ir_version, notes or {}))


class _Writer:
    """Adds each node's operators to the file; a value is called as in the graph."""

    def __init__(self, file: OnnxFile) -> None:
        self.file = file

    @singledispatchmethod
    def write(self, node: Node) -> None:
        raise TypeError(f"no way to write {type(node).__name__} as ONNX")

    @write.register
    def _conv(self, node: Conv) -> None:
        (top, bottom), (left, right) = node.padding
        self._fusing(
            node,
            "Conv",
            (*node.inputs, *self._weights(node)),
            kernel_shape=node.weight.shape[2:],
            strides=node.stride,
            pads=(top, left, bottom, right),
            dilations=node.dilation,
            group=node.groups,
        )

    @write.register
    def _conv_transpose(self, node: ConvTranspose) -> None:
        ends = [
            (size - 1) * stride + (window - 1) * dilation + 1 - wanted - begin
            for size, stride, window, dilation, wanted, begin in zip(
                self.file.shapes[node.inputs[0]][2:], node.stride, node.weight.shape[2:],
                node.dilation, node.shape[2:], node.begin, strict=True,
            )
        ]  # fmt: skip
        self.file.add(
            "ConvTranspose",
            (*node.inputs, *self._weights(node)),
            node.name,
            kernel_shape=node.weight.shape[2:],
            strides=node.stride,
            pads=(*node.begin, *(max(end, 0) for end in ends)),
            output_padding=[max(-end, 0) for end in ends],
            dilations=node.dilation,
            group=node.groups,
        )

    @write.register
    def _linear(self, node: Linear) -> None:
        self._fusing(node, "Gemm", (*node.inputs, *self._weights(node)), transB=1)

    @write.register
    def _layer_norm(self, node: LayerNorm) -> None:
        """The operator takes the last axes only, and is there from opset 17 on."""
        if self.file.opset < 17:
            self._layer_norm_in_parts(node)
            return
        weights = self._constant(node, "gain", node.gain), self._constant(node, "shift", node.shift)
        value, output = node.inputs[0], node.name
        if len(node.shape) == 4:
            value, output = f"{node.name}.last", f"{node.name}.normed"
            self.file.add("Transpose", node.inputs, value, perm=(0, 2, 3, 1))
        self.file.add("LayerNormalization", (value, *weights), output, axis=-1, epsilon=node.eps)
        if len(node.shape) == 4:
            self.file.add("Transpose", (output,), node.name, perm=(0, 3, 1, 2))

    def _layer_norm_in_parts(self, node: LayerNorm) -> None:
        (value,), add = node.inputs, self.file.add
        shape = (1, -1, *(1,) * (len(node.shape) - 2))

        def called(what: str) -> str:
            return f"{node.name}.{what}"

        self._mean((value,), called("mean"), (1,))
        add("Sub", (value, called("mean")), called("centred"))
        add("Mul", (called("centred"), called("centred")), called("squared"))
        self._mean((called("squared"),), called("variance"), (1,))
        eps = self._constant(node, "eps", np.float32(node.eps))
        add("Add", (called("variance"), eps), called("more"))
        add("Sqrt", (called("more"),), called("deviation"))
        add("Div", (called("centred"), called("deviation")), called("normed"))
        gain = self._constant(node, "gain", node.gain.reshape(shape))
        add("Mul", (called("normed"), gain), called("scaled"))
        shift = self._constant(node, "shift", node.shift.reshape(shape))
        add("Add", (called("scaled"), shift), node.name)

    @write.register
    def _arithmetic(self, node: Arithmetic) -> None:
        self._fusing(node, OPS[node.op], node.inputs)

    @write.register
    def _activation(self, node: Activation) -> None:
        activate(self.file, node.op, node.inputs[0], node.name, node.slope)

    @write.register
    def _prelu(self, node: Prelu) -> None:
        slope = self._constant(node, "slope", node.slope[:, None, None])
        self.file.add("PRelu", (*node.inputs, slope), node.name)

    @write.register
    def _pool(self, node: Pool) -> None:
        if len(node.shape) == 4:
            self.file.add("GlobalAveragePool", node.inputs, node.name)
        else:
            self.file.add("GlobalAveragePool", node.inputs, f"{node.name}.pooled")
            self.file.add("Flatten", (f"{node.name}.pooled",), node.name)

    @write.register
    def _means(self, node: Mean) -> None:
        self._mean(node.inputs, node.name, node.axes)

    def _mean(self, inputs: tuple[str, ...], output: str, axes: tuple[int, ...]) -> None:
        """The axes are an input from opset 18 on."""
        if self.file.opset < 18:
            self.file.add("ReduceMean", inputs, output, axes=axes, keepdims=1)
        else:
            over = self.file.constant(f"{output}.axes", np.array(axes, np.int64))
            self.file.add("ReduceMean", (*inputs, over), output, keepdims=1)

    @write.register
    def _reshape(self, node: Reshape) -> None:
        if len(node.shape) == 2:
            self.file.add("Flatten", node.inputs, node.name)
        else:
            shape = self._constant(node, "shape", np.array((0, *node.shape[1:]), np.int64))
            self.file.add("Reshape", (*node.inputs, shape), node.name)

    @write.register
    def _shuffle(self, node: Shuffle) -> None:
        _, channels, height, width = node.shape
        rows = np.array((0, node.groups, channels // node.groups, height, width), np.int64)
        whole = np.array((0, channels, height, width), np.int64)
        split, swapped = f"{node.name}.split", f"{node.name}.swapped"
        self.file.add("Reshape", (*node.inputs, self._constant(node, "rows", rows)), split)
        self.file.add("Transpose", (split,), swapped, perm=(0, 2, 1, 3, 4))
        self.file.add("Reshape", (swapped, self._constant(node, "whole", whole)), node.name)

    @write.register
    def _window_pool(self, node: WindowPool) -> None:
        (top, bottom), (left, right) = node.padding
        exclusive: dict[str, Any] = (
            {} if node.op == "max" else {"count_include_pad": int(node.counts_padding)}
        )
        self.file.add(
            {"max": "MaxPool", "mean": "AveragePool"}[node.op],
            node.inputs,
            node.name,
            kernel_shape=node.size,
            strides=node.stride,
            pads=(top, left, bottom, right),
            **exclusive,
        )

    @write.register
    def _slice(self, node: Slice) -> None:
        """Of the axes that are cut; the ends are what gives so many."""
        before = self.file.shapes[node.inputs[0]]
        cut = [
            (axis, begin, begin + (size - 1) * step + 1, step)
            for axis, (begin, step, size, whole) in enumerate(
                zip(node.begin, node.step, node.shape, before, strict=True)
            )
            if size != whole
        ]
        if not cut:
            self.file.add("Identity", node.inputs, node.name)
            return
        axes, begins, ends, steps = (np.array(one, np.int64) for one in zip(*cut, strict=True))
        bounds = {"begin": begins, "end": ends, "axes": axes}
        if (steps != 1).any():
            bounds["step"] = steps
        inputs = [self._constant(node, what, values) for what, values in bounds.items()]
        self.file.add("Slice", (*node.inputs, *inputs), node.name)

    @write.register
    def _pad(self, node: Pad) -> None:
        pads = np.array([side for end in zip(*node.sides, strict=True) for side in end], np.int64)
        inputs = [*node.inputs, self._constant(node, "sides", pads)]
        if node.value is not None:
            inputs.append(self._constant(node, "value", np.float32(node.value)))
        mode = "reflect" if node.value is None else "constant"
        self.file.add("Pad", tuple(inputs), node.name, mode=mode)

    @write.register
    def _resize(self, node: Resize) -> None:
        if node.nearest:
            mode: dict[str, Any] = {"mode": "nearest", "nearest_mode": "floor",
                                    "coordinate_transformation_mode": "asymmetric"}  # fmt: skip
        else:
            pixel = "align_corners" if node.align_corners else "half_pixel"
            mode = {"mode": "linear", "coordinate_transformation_mode": pixel}
        if not self.file.dynamic_batch:
            sizes = self._constant(node, "sizes", np.array(node.shape, np.int64))
        elif self.file.opset >= 18:
            sizes = self._constant(node, "sizes", np.array(node.shape[2:], np.int64))
            mode["axes"] = (2, 3)
        else:
            raise ExportError(f"{node.name}: resizing a free batch needs opset 18 or later")
        self.file.add("Resize", (*node.inputs, "", "", sizes), node.name, **mode)

    @write.register
    def _concat(self, node: Concat) -> None:
        constant = [name for name in node.inputs if name in self.file.known]
        if constant and self.file.dynamic_batch:
            raise ExportError(f"{node.name}: a constant cannot be joined to a free batch")
        self.file.add("Concat", node.inputs, node.name, axis=node.axis)

    @write.register
    def _constants(self, node: Constant) -> None:
        self.file.value(node.name, node.value)

    def _fusing(
        self, node: Conv | Linear | Arithmetic, op: str, inputs: tuple[str, ...], **attributes: Any
    ) -> None:
        if node.fused is None:
            self.file.add(op, inputs, node.name, **attributes)
        else:
            self.file.add(op, inputs, f"{node.name}.before", **attributes)
            activate(self.file, node.fused, f"{node.name}.before", node.name)

    def _weights(self, node: Conv | ConvTranspose | Linear) -> tuple[str, str]:
        return (
            self._constant(node, "weight", node.weight),
            self._constant(node, "bias", node.bias),
        )

    def _constant(self, node: Node, what: str, values: Any) -> str:
        return self.file.constant(f"{node.name}.{what}", values)
