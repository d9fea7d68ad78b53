"""Writes the compiler's graph as TFLite: NHWC, activations fused, no TRANSPOSE but in a shuffle.

Weights are transposed when written: convolutions to ``[O, h, w, I]``, depthwise ones to
``[1, h, w, C]``, linear layers of flattened maps to the order of NHWC. PyTorch's padding is mostly
the same at both sides, TFLite's SAME puts less before than after; where the two differ there is an
explicit PAD.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.nodes import (
    INPUT,
    OUTPUT,
    Activation,
    Arithmetic,
    Array,
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
from hwnas.export.tflite_buffers import Flatbuffer
from hwnas.export.tflite_order import flat_orders, in_pixel_order
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
    with path.open("wb") as file:
        file.writelines(writer.file.packed(schema_version, INPUT, OUTPUT))


def _nhwc(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what is said of each axis in TFLite's order of axes."""
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


def _place(axis: int) -> int:
    """Return where PyTorch's axis of four is in TFLite."""
    return (0, 3, 1, 2)[axis]


def _spread(weight: Array, dilation: tuple[int, int]) -> Array:
    """Write a dilated kernel out, with zeros between its weights."""
    if dilation == (1, 1):
        return weight
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    spread = np.zeros((*weight.shape[:2], *reach), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


class _Writer:
    """Adds each node's operators to the file; a value is called as in the graph."""

    def __init__(self, graph: Graph) -> None:
        self.file = Flatbuffer()
        self.file.tensor(INPUT, _nhwc((1, *graph.input_shape)))
        self._flat = flat_orders(graph)

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
        version = 2 if node.depthwise and node.dilation != (1, 1) else 1
        options: dict[str, Any] = {}
        if node.depthwise:
            options["depthMultiplier"] = len(node.weight) // node.groups
        elif node.groups > 1:
            version = 6
        self.file.operator(
            "DEPTHWISE_CONV_2D" if node.depthwise else "CONV_2D",
            "DepthwiseConv2DOptions" if node.depthwise else "Conv2DOptions",
            (
                value,
                self._constant(node, "weight", weight),
                self._constant(node, "bias", node.bias),
            ),
            self._output(node),
            version=version,
            padding=padding,
            strideH=node.stride[0],
            strideW=node.stride[1],
            dilationHFactor=node.dilation[0],
            dilationWFactor=node.dilation[1],
            fusedActivationFunction=_FUSED[node.fused],
            **options,
        )

    @write.register
    def _conv_transpose(self, node: ConvTranspose) -> None:
        """The whole result (VALID), of which what PyTorch keeps is cut out, unless SAME is that."""
        if node.groups > 1:
            raise ExportError(
                f"{node.name}: a transposed convolution in {node.groups} groups is not supported "
                "in TFLite; fall-back: --via litert-torch"
            )
        weight = _spread(node.weight, node.dilation).transpose(1, 2, 3, 0)
        given, kept = self.file.shapes[node.inputs[0]][1:3], node.shape[2:]
        windows, channels = weight.shape[1:3], node.shape[1]
        whole = tuple(
            (size - 1) * stride + window
            for size, stride, window in zip(given, node.stride, windows, strict=True)
        )
        same = all(
            wanted == size * stride and begin == (full - wanted) // 2 and full >= wanted
            for size, stride, wanted, begin, full in zip(
                given, node.stride, kept, node.begin, whole, strict=True
            )
        )
        cut = not same and (whole != kept or node.begin != (0, 0))
        made = (1, *(kept if same else whole), channels)
        output = self.file.tensor(f"{node.name}.whole", made) if cut else self._output(node)
        self.file.operator(
            "TRANSPOSE_CONV",
            "TransposeConvOptions",
            (
                self._constant(node, "shape", np.array(made, np.int32)),
                self._constant(node, "weight", weight),
                node.inputs[0],
                self._constant(node, "bias", node.bias),
            ),
            output,
            version=3,
            padding=_SAME if same else _VALID,
            strideH=node.stride[0],
            strideW=node.stride[1],
        )
        if cut:
            self._cut(node, output, whole)

    def _cut(self, node: ConvTranspose, value: str, whole: tuple[int, ...]) -> None:
        """Keep ``shape`` from ``begin`` on; what lies beyond the whole result is the bias."""
        beyond = [
            max(begin + wanted - full, 0)
            for begin, wanted, full in zip(node.begin, node.shape[2:], whole, strict=True)
        ]
        if any(beyond):
            if node.bias.any():
                raise ExportError(
                    f"{node.name}: an output_padding beyond what is reached, with a bias, is not "
                    "supported in TFLite; fall-back: --via litert-torch"
                )
            sides = np.array([(0, 0), *((0, more) for more in beyond), (0, 0)], np.int32)
            shape = (1, *(a + b for a, b in zip(whole, beyond, strict=True)), node.shape[1])
            padded = self.file.tensor(f"{node.name}.padded", shape)
            self.file.operator(
                "PAD", "PadOptions", (value, self._constant(node, "sides", sides)), padded
            )
            value = padded
        begin = self._constant(node, "begin", np.array((0, *node.begin, 0), np.int32))
        size = self._constant(node, "size", np.array(_nhwc(node.shape), np.int32))
        self.file.operator("SLICE", "SliceOptions", (value, begin, size), self._output(node))

    @write.register
    def _linear(self, node: Linear) -> None:
        weight = in_pixel_order(node.weight, self._flat.get(node.inputs[0]))
        self.file.operator(
            "FULLY_CONNECTED",
            "FullyConnectedOptions",
            (
                *node.inputs,
                self._constant(node, "weight", weight),
                self._constant(node, "bias", node.bias),
            ),
            self._output(node),
            fusedActivationFunction=_FUSED[node.fused],
        )

    @write.register
    def _layer_norm(self, node: LayerNorm) -> None:
        """``(x - mean) / sqrt(variance + eps) * gain + shift``, operator by operator."""
        axis = self.file.constant("last axis", np.array([len(node.shape) - 1], np.int32))
        one = (*_nhwc(node.shape)[:-1], 1)

        def step(op: str, options: str | None, what: str, *inputs: str, small: bool = False) -> str:
            output = self.file.tensor(f"{node.name}.{what}", one if small else _nhwc(node.shape))
            keep: dict[str, Any] = {"keepDims": True} if op == "MEAN" else {}
            self.file.operator(op, options, inputs, output, **keep)
            return output

        mean = step("MEAN", "ReducerOptions", "mean", node.inputs[0], axis, small=True)
        centred = step("SUB", "SubOptions", "centred", node.inputs[0], mean)
        squared = step("MUL", "MulOptions", "squared", centred, centred)
        variance = step("MEAN", "ReducerOptions", "variance", squared, axis, small=True)
        eps = self._constant(node, "eps", np.array([node.eps], np.float32))
        more = step("ADD", "AddOptions", "more", variance, eps, small=True)
        inverse = step("RSQRT", None, "inverse", more, small=True)
        normed = step("MUL", "MulOptions", "normed", centred, inverse)
        gain, shift = (
            self._constant(node, what, values.reshape(*(1,) * (len(node.shape) - 1), -1))
            for what, values in (("gain", node.gain), ("shift", node.shift))
        )
        scaled = step("MUL", "MulOptions", "scaled", normed, gain)
        self.file.operator("ADD", "AddOptions", (scaled, shift), self._output(node))

    @write.register
    def _arithmetic(self, node: Arithmetic) -> None:
        op = node.op.upper()
        fused: dict[str, Any] = {"fusedActivationFunction": _FUSED[node.fused]}
        if node.op in ("minimum", "maximum"):
            options, fused = "MaximumMinimumOptions", {}
        else:
            options = f"{node.op.capitalize()}Options"
        self.file.operator(op, options, node.inputs, self._output(node), **fused)

    @write.register
    def _activation(self, node: Activation) -> None:
        if node.op == "hardsigmoid":
            self._hardsigmoid(node)
            return
        op, options, known = _ACTIVATIONS[node.op]
        fields: dict[str, Any] = {"alpha": node.slope} if node.op == "leaky_relu" else known
        self.file.operator(op, options, node.inputs, self._output(node), **fields)

    @write.register
    def _prelu(self, node: Prelu) -> None:
        slope = self._constant(node, "slope", node.slope[None, None])
        self.file.operator("PRELU", None, (*node.inputs, slope), self._output(node))

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
    def _mean(self, node: Mean) -> None:
        places = np.array(sorted(_place(axis) for axis in node.axes), np.int32)
        axes = self._constant(node, "axes", places)
        self.file.operator(
            "MEAN", "ReducerOptions", (*node.inputs, axes), self._output(node), keepDims=True
        )

    @write.register
    def _reshape(self, node: Reshape) -> None:
        """Through PyTorch's order of axes, unless what follows takes the other, or it is one."""
        value = node.inputs[0]
        if node.name not in self._flat:
            value = self._transposed(value, (0, 3, 1, 2), f"{node.name}.first")
        if len(node.shape) < 4 or node.shape[1] == 1 or node.shape[2:] == (1, 1):
            self._reshaped(value, node.name, _nhwc(node.shape))
            return
        first = f"{node.name}.reshaped"
        self._reshaped(value, first, node.shape)
        self._transposed(first, (0, 2, 3, 1), node.name)

    def _transposed(self, value: str, order: tuple[int, ...], output: str) -> str:
        """Return ``value`` with 4 axes in another order; itself where that changes nothing."""
        shape = self.file.shapes[value]
        large = [axis for axis in range(len(shape)) if shape[axis] > 1]
        if output.endswith(".first") and (
            len(shape) < 4 or large == sorted(large, key=order.index)
        ):
            return value
        axes = self.file.constant(f"order {order}", np.array(order, np.int32))
        new = tuple(shape[axis] for axis in order)
        self.file.operator(
            "TRANSPOSE", "TransposeOptions", (value, axes), self.file.tensor(output, new)
        )
        return output

    def _reshaped(self, value: str, output: str, shape: tuple[int, ...]) -> None:
        wanted = self.file.constant(f"{output}.shape", np.array(shape, np.int32))
        self.file.operator(
            "RESHAPE", "ReshapeOptions", (value, wanted), self.file.tensor(output, shape),
            newShape=list(shape),
        )  # fmt: skip

    @write.register
    def _shuffle(self, node: Shuffle) -> None:
        _, channels, height, width = node.shape
        rows = (1, height * width, node.groups, channels // node.groups)
        split, swapped = f"{node.name}.split", f"{node.name}.swapped"
        self._reshaped(node.inputs[0], split, rows)
        self._transposed(split, (0, 1, 3, 2), swapped)
        self._reshaped(swapped, node.name, _nhwc(node.shape))

    @write.register
    def _window_pool(self, node: WindowPool) -> None:
        """TFLite's pools leave padding out, but only where SAME puts it: see `_padded`."""
        value, padding = self._padded(node, node.size, fill=_LOWEST if node.op == "max" else 0.0)
        partial = node.op == "mean" and value != node.inputs[0] and not node.counts_padding
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
        shape, first, step = _nhwc(node.shape), _nhwc(node.begin), _nhwc(node.step)
        begin = self._constant(node, "begin", np.array(first, np.int32))
        if set(step) == {1}:
            size = self._constant(node, "size", np.array(shape, np.int32))
            inputs = (*node.inputs, begin, size)
            self.file.operator("SLICE", "SliceOptions", inputs, self._output(node))
            return
        ends = [a + (n - 1) * s + 1 for a, n, s in zip(first, shape, step, strict=True)]
        end = self._constant(node, "end", np.array(ends, np.int32))
        inputs = (*node.inputs, begin, end, self._constant(node, "step", np.array(step, np.int32)))
        self.file.operator("STRIDED_SLICE", "StridedSliceOptions", inputs, self._output(node))

    @write.register
    def _pad(self, node: Pad) -> None:
        sides = self._constant(node, "sides", np.array(_nhwc(node.sides), np.int32))
        inputs, output = (*node.inputs, sides), self._output(node)
        if node.value is None:
            self.file.operator("MIRROR_PAD", "MirrorPadOptions", inputs, output, mode=0)
        else:
            self._margin(inputs, output, node.value)

    def _margin(self, inputs: tuple[str, ...], output: str, fill: float) -> None:
        if fill:
            value = self.file.constant(f"fill {fill}", np.array([fill], np.float32))
            self.file.operator("PADV2", "PadV2Options", (*inputs, value), output)
        else:
            self.file.operator("PAD", "PadOptions", inputs, output)

    @write.register
    def _resize(self, node: Resize) -> None:
        size = self._constant(node, "size", np.array(node.shape[2:], np.int32))
        half = not node.nearest and not node.align_corners
        self.file.operator(
            "RESIZE_NEAREST_NEIGHBOR" if node.nearest else "RESIZE_BILINEAR",
            "ResizeNearestNeighborOptions" if node.nearest else "ResizeBilinearOptions",
            (*node.inputs, size),
            self._output(node),
            version=3 if half else 1,
            alignCorners=node.align_corners,
            halfPixelCenters=half,
        )

    @write.register
    def _concat(self, node: Concat) -> None:
        axis = _place(node.axis) if len(node.shape) == 4 else node.axis
        self.file.operator(
            "CONCATENATION", "ConcatenationOptions", node.inputs, self._output(node), axis=axis
        )

    @write.register
    def _constants(self, node: Constant) -> None:
        value = node.value.transpose(0, 2, 3, 1) if node.value.ndim == 4 else node.value
        self.file.value(node.name, np.ascontiguousarray(value))

    def _padded(
        self, node: Conv | WindowPool, window: tuple[int, int], fill: float = 0.0
    ) -> tuple[str, int]:
        """Return the value to slide over and TFLite's padding that together are PyTorch's."""
        if not np.any(node.padding):
            return node.inputs[0], _VALID
        _, height, width, channels = self.file.shapes[node.inputs[0]]
        axes = list(zip((height, width), *_axes(node, window), strict=True))
        counted = isinstance(node, WindowPool) and node.counts_padding
        if not counted and all(is_same(*axis) for axis in axes):
            return node.inputs[0], _SAME
        if isinstance(node, Conv):
            # in full, though a stride may never reach the end: latency tables were measured so
            rows, columns = node.padding
        else:
            rows, columns = (amounts(*axis) for axis in axes)
        shape = (1, height + sum(rows), width + sum(columns), channels)
        padded = self.file.tensor(f"{node.name}.padded", shape)
        paddings = np.array([(0, 0), rows, columns, (0, 0)], np.int32)
        inputs = node.inputs[0], self._constant(node, "padding", paddings)
        self._margin(inputs, padded, fill)
        return padded, _VALID

    def _output(self, node: Node) -> str:
        return self.file.tensor(node.name, _nhwc(node.shape))

    def _constant(self, node: Node, what: str, values: Any) -> str:
        return self.file.constant(f"{node.name}.{what}", values)


_ACTIVATIONS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "relu": ("RELU", None, {}),
    "relu6": ("RELU6", None, {}),
    "sigmoid": ("LOGISTIC", None, {}),
    "tanh": ("TANH", None, {}),
    "hardswish": ("HARD_SWISH", "HardSwishOptions", {}),
    "gelu": ("GELU", "GeluOptions", {"approximate": False}),
    "gelu_tanh": ("GELU", "GeluOptions", {"approximate": True}),
    "elu": ("ELU", None, {}),
    "leaky_relu": ("LEAKY_RELU", "LeakyReluOptions", {}),
    "exp": ("EXP", "ExpOptions", {}),
    "log": ("LOG", None, {}),
    "sqrt": ("SQRT", None, {}),
    "abs": ("ABS", "AbsOptions", {}),
    "neg": ("NEG", "NegOptions", {}),
    "softmax": ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    "log_softmax": ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
}
"""Builtin, its options' type and their fields."""

_SAME, _VALID = 0, 1
_FUSED = {None: 0, "relu": 1, "relu6": 3}
"""Numbers of the schema's enums ``Padding`` and ``ActivationFunctionType``."""

_LOWEST = float(np.finfo(np.float32).min)
"""What a maximum never is, unless all are."""


def _axes(node: Conv | WindowPool, window: tuple[int, int]) -> Iterator[tuple[Any, ...]]:
    """Yield padding, window, stride and dilation, each of (height, width)."""
    yield from (node.padding, window, node.stride)
    yield node.dilation if isinstance(node, Conv) else (1, 1)
