"""TFLite emitters for layers with weights: convolutions, linear layers and layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Array, Conv, ConvTranspose, LayerNorm, Linear
from hwnas.export.tflite.flatten_order import reorder_weight
from hwnas.export.tflite.model_builder import (
    FUSED_ACTIVATION,
    SAME,
    VALID,
    TfliteBuilder,
    emits,
    nhwc,
)


@emits(Conv)
def conv(builder: TfliteBuilder, node: Conv) -> None:
    value, padding = builder.padded_input(node, node.weight.shape[2:])
    weight = (
        node.weight.transpose(1, 2, 3, 0) if node.depthwise else node.weight.transpose(0, 2, 3, 1)
    )
    version = 2 if node.depthwise and node.dilation != (1, 1) else 1
    options: dict[str, Any] = {}
    if node.depthwise:
        options["depthMultiplier"] = len(node.weight) // node.groups
    elif node.groups > 1:
        version = 6
    builder.operator(
        "DEPTHWISE_CONV_2D" if node.depthwise else "CONV_2D",
        "DepthwiseConv2DOptions" if node.depthwise else "Conv2DOptions",
        (
            value,
            builder.node_constant(node, "weight", weight),
            builder.node_constant(node, "bias", node.bias),
        ),
        builder.output(node),
        version=version,
        padding=padding,
        strideH=node.stride[0],
        strideW=node.stride[1],
        dilationHFactor=node.dilation[0],
        dilationWFactor=node.dilation[1],
        fusedActivationFunction=FUSED_ACTIVATION[node.fused],
        **options,
    )


@emits(ConvTranspose)
def conv_transpose(builder: TfliteBuilder, node: ConvTranspose) -> None:
    """Compute the full result (VALID) and crop it as PyTorch does, unless SAME gives just that."""
    if node.groups > 1:
        raise ExportError(
            f"{node.name}: a transposed convolution with {node.groups} groups is not supported "
            "in TFLite; fall-back: --via litert-torch"
        )
    weight = _dilate(node.weight, node.dilation).transpose(1, 2, 3, 0)
    input_size, output_size = builder.shapes[node.inputs[0]][1:3], node.shape[2:]
    windows, channels = weight.shape[1:3], node.shape[1]
    full_size = tuple(
        (size - 1) * stride + window
        for size, stride, window in zip(input_size, node.stride, windows, strict=True)
    )
    same = all(
        after == size * stride and begin == (full - after) // 2 and full >= after
        for size, stride, after, begin, full in zip(
            input_size, node.stride, output_size, node.begin, full_size, strict=True
        )
    )
    cropped = not same and (full_size != output_size or node.begin != (0, 0))
    shape = (1, *(output_size if same else full_size), channels)
    output = builder.tensor(f"{node.name}.whole", shape) if cropped else builder.output(node)
    builder.operator(
        "TRANSPOSE_CONV",
        "TransposeConvOptions",
        (
            builder.node_constant(node, "shape", np.array(shape, np.int32)),
            builder.node_constant(node, "weight", weight),
            node.inputs[0],
            builder.node_constant(node, "bias", node.bias),
        ),
        output,
        version=3,
        padding=SAME if same else VALID,
        strideH=node.stride[0],
        strideW=node.stride[1],
    )
    if cropped:
        _crop(builder, node, output, full_size)


def _crop(
    builder: TfliteBuilder, node: ConvTranspose, value: str, full_size: tuple[int, ...]
) -> None:
    """Cut ``node.shape`` out from ``node.begin`` on; pixels beyond the full result are zeros."""
    extra = [
        max(begin + size - full, 0)
        for begin, size, full in zip(node.begin, node.shape[2:], full_size, strict=True)
    ]
    if any(extra):
        if node.bias.any():
            raise ExportError(
                f"{node.name}: an output_padding that adds pixels beyond the result, with a bias, "
                "is not supported in TFLite; fall-back: --via litert-torch"
            )
        sides = np.array([(0, 0), *((0, pixels) for pixels in extra), (0, 0)], np.int32)
        shape = (1, *(a + b for a, b in zip(full_size, extra, strict=True)), node.shape[1])
        padded = builder.tensor(f"{node.name}.padded", shape)
        builder.operator(
            "PAD", "PadOptions", (value, builder.node_constant(node, "sides", sides)), padded
        )
        value = padded
    begin = builder.node_constant(node, "begin", np.array((0, *node.begin, 0), np.int32))
    size = builder.node_constant(node, "size", np.array(nhwc(node.shape), np.int32))
    builder.operator("SLICE", "SliceOptions", (value, begin, size), builder.output(node))


def _dilate(weight: Array, dilation: tuple[int, int]) -> Array:
    """Return a dilated kernel written out, with zeros between its weights."""
    if dilation == (1, 1):
        return weight
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    dilated = np.zeros((*weight.shape[:2], *size), np.float32)
    dilated[:, :, :: dilation[0], :: dilation[1]] = weight
    return dilated


@emits(Linear)
def linear(builder: TfliteBuilder, node: Linear) -> None:
    weight = reorder_weight(node.weight, builder.nhwc_flattened.get(node.inputs[0]))
    builder.operator(
        "FULLY_CONNECTED",
        "FullyConnectedOptions",
        (
            *node.inputs,
            builder.node_constant(node, "weight", weight),
            builder.node_constant(node, "bias", node.bias),
        ),
        builder.output(node),
        fusedActivationFunction=FUSED_ACTIVATION[node.fused],
    )


@emits(LayerNorm)
def layer_norm(builder: TfliteBuilder, node: LayerNorm) -> None:
    """Compute ``(x - mean) / sqrt(variance + eps) * gain + shift``: there is no builtin."""
    axis = builder.constant("last axis", np.array([len(node.shape) - 1], np.int32))
    shape = nhwc(node.shape)
    per_pixel = (*shape[:-1], 1)

    def step(
        op: str, options: str | None, name: str, *inputs: str, shape: tuple[int, ...] = shape
    ) -> str:
        output = builder.tensor(f"{node.name}.{name}", shape)
        keep: dict[str, Any] = {"keepDims": True} if op == "MEAN" else {}
        builder.operator(op, options, inputs, output, **keep)
        return output

    mean = step("MEAN", "ReducerOptions", "mean", node.inputs[0], axis, shape=per_pixel)
    centred = step("SUB", "SubOptions", "centred", node.inputs[0], mean)
    squared = step("MUL", "MulOptions", "squared", centred, centred)
    variance = step("MEAN", "ReducerOptions", "variance", squared, axis, shape=per_pixel)
    eps = builder.node_constant(node, "eps", np.array([node.eps], np.float32))
    more = step("ADD", "AddOptions", "more", variance, eps, shape=per_pixel)
    inverse = step("RSQRT", None, "inverse", more, shape=per_pixel)
    normed = step("MUL", "MulOptions", "normed", centred, inverse)
    gain, shift = (
        builder.node_constant(node, name, values.reshape(*(1,) * (len(node.shape) - 1), -1))
        for name, values in (("gain", node.gain), ("shift", node.shift))
    )
    scaled = step("MUL", "MulOptions", "scaled", normed, gain)
    builder.operator("ADD", "AddOptions", (scaled, shift), builder.output(node))
