"""Layers with weights in TFLite: convolutions, transposed ones, linear; and layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Array, Conv, ConvTranspose, LayerNorm, Linear
from hwnas.export.tflite.flatten_order import in_pixel_order
from hwnas.export.tflite.writer import FUSED, SAME, VALID, Writer, nhwc


def conv(writer: Writer, node: Conv) -> None:
    value, padding = writer.padded(node, node.weight.shape[2:])
    weight = (
        node.weight.transpose(1, 2, 3, 0) if node.depthwise else node.weight.transpose(0, 2, 3, 1)
    )
    version = 2 if node.depthwise and node.dilation != (1, 1) else 1
    options: dict[str, Any] = {}
    if node.depthwise:
        options["depthMultiplier"] = len(node.weight) // node.groups
    elif node.groups > 1:
        version = 6
    writer.file.operator(
        "DEPTHWISE_CONV_2D" if node.depthwise else "CONV_2D",
        "DepthwiseConv2DOptions" if node.depthwise else "Conv2DOptions",
        (
            value,
            writer.constant(node, "weight", weight),
            writer.constant(node, "bias", node.bias),
        ),
        writer.output(node),
        version=version,
        padding=padding,
        strideH=node.stride[0],
        strideW=node.stride[1],
        dilationHFactor=node.dilation[0],
        dilationWFactor=node.dilation[1],
        fusedActivationFunction=FUSED[node.fused],
        **options,
    )


def conv_transpose(writer: Writer, node: ConvTranspose) -> None:
    """The whole result (VALID), of which what PyTorch keeps is cut out, unless SAME is that."""
    if node.groups > 1:
        raise ExportError(
            f"{node.name}: a transposed convolution in {node.groups} groups is not supported "
            "in TFLite; fall-back: --via litert-torch"
        )
    weight = _spread(node.weight, node.dilation).transpose(1, 2, 3, 0)
    given, kept = writer.file.shapes[node.inputs[0]][1:3], node.shape[2:]
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
    output = writer.file.tensor(f"{node.name}.whole", made) if cut else writer.output(node)
    writer.file.operator(
        "TRANSPOSE_CONV",
        "TransposeConvOptions",
        (
            writer.constant(node, "shape", np.array(made, np.int32)),
            writer.constant(node, "weight", weight),
            node.inputs[0],
            writer.constant(node, "bias", node.bias),
        ),
        output,
        version=3,
        padding=SAME if same else VALID,
        strideH=node.stride[0],
        strideW=node.stride[1],
    )
    if cut:
        _cut(writer, node, output, whole)


def _cut(writer: Writer, node: ConvTranspose, value: str, whole: tuple[int, ...]) -> None:
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
        padded = writer.file.tensor(f"{node.name}.padded", shape)
        writer.file.operator(
            "PAD", "PadOptions", (value, writer.constant(node, "sides", sides)), padded
        )
        value = padded
    begin = writer.constant(node, "begin", np.array((0, *node.begin, 0), np.int32))
    size = writer.constant(node, "size", np.array(nhwc(node.shape), np.int32))
    writer.file.operator("SLICE", "SliceOptions", (value, begin, size), writer.output(node))


def _spread(weight: Array, dilation: tuple[int, int]) -> Array:
    """Write a dilated kernel out, with zeros between its weights."""
    if dilation == (1, 1):
        return weight
    reach = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    spread = np.zeros((*weight.shape[:2], *reach), np.float32)
    spread[:, :, :: dilation[0], :: dilation[1]] = weight
    return spread


def linear(writer: Writer, node: Linear) -> None:
    weight = in_pixel_order(node.weight, writer.flat.get(node.inputs[0]))
    writer.file.operator(
        "FULLY_CONNECTED",
        "FullyConnectedOptions",
        (
            *node.inputs,
            writer.constant(node, "weight", weight),
            writer.constant(node, "bias", node.bias),
        ),
        writer.output(node),
        fusedActivationFunction=FUSED[node.fused],
    )


def layer_norm(writer: Writer, node: LayerNorm) -> None:
    """``(x - mean) / sqrt(variance + eps) * gain + shift``, operator by operator."""
    axis = writer.file.constant("last axis", np.array([len(node.shape) - 1], np.int32))
    one = (*nhwc(node.shape)[:-1], 1)

    def step(op: str, options: str | None, what: str, *inputs: str, small: bool = False) -> str:
        output = writer.file.tensor(f"{node.name}.{what}", one if small else nhwc(node.shape))
        keep: dict[str, Any] = {"keepDims": True} if op == "MEAN" else {}
        writer.file.operator(op, options, inputs, output, **keep)
        return output

    mean = step("MEAN", "ReducerOptions", "mean", node.inputs[0], axis, small=True)
    centred = step("SUB", "SubOptions", "centred", node.inputs[0], mean)
    squared = step("MUL", "MulOptions", "squared", centred, centred)
    variance = step("MEAN", "ReducerOptions", "variance", squared, axis, small=True)
    eps = writer.constant(node, "eps", np.array([node.eps], np.float32))
    more = step("ADD", "AddOptions", "more", variance, eps, small=True)
    inverse = step("RSQRT", None, "inverse", more, small=True)
    normed = step("MUL", "MulOptions", "normed", centred, inverse)
    gain, shift = (
        writer.constant(node, what, values.reshape(*(1,) * (len(node.shape) - 1), -1))
        for what, values in (("gain", node.gain), ("shift", node.shift))
    )
    scaled = step("MUL", "MulOptions", "scaled", normed, gain)
    writer.file.operator("ADD", "AddOptions", (scaled, shift), writer.output(node))
