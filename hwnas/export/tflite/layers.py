"""TFLite emitters for convolutions, linear layers, matrix products and layer norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.export.graph.nodes import Conv, LayerNorm, Linear, MatMul
from hwnas.export.tflite.model_builder import FUSED_ACTIVATION, TfliteBuilder, emits

DYNAMIC_CONV, DYNAMIC_LINEAR = 5, 12
"""First versions of operators that take floats, and int8 weights with a scale for each channel."""


@emits(Conv)
def conv(builder: TfliteBuilder, node: Conv) -> None:
    value, padding = builder.padded_input(node, node.weight.shape[2:])
    weight = (
        node.weight.transpose(1, 2, 3, 0) if node.depthwise else node.weight.transpose(0, 2, 3, 1)
    )
    version = 2 if node.depthwise and node.dilation != (1, 1) else 1
    stored = builder.dynamic_weight(node, weight) if node.groups == 1 else None
    if stored is not None:
        version = DYNAMIC_CONV
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
            stored or builder.weight(node, weight, 3 if node.depthwise else 0),
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


@emits(Linear)
def linear(builder: TfliteBuilder, node: Linear) -> None:
    stored = builder.dynamic_weight(node, node.weight)
    version = 1 if len(node.shape) == 2 else 5
    builder.operator(
        "FULLY_CONNECTED",
        "FullyConnectedOptions",
        (
            *node.inputs,
            stored or builder.weight(node, node.weight, axis=0),
            builder.node_constant(node, "bias", node.bias),
        ),
        builder.output(node),
        version=version if stored is None else DYNAMIC_LINEAR,
        keepNumDims=len(node.shape) > 2,
        fusedActivationFunction=FUSED_ACTIVATION[node.fused],
    )


@emits(MatMul)
def matmul(builder: TfliteBuilder, node: MatMul) -> None:
    first, second = node.swapped
    builder.operator(
        "BATCH_MATMUL",
        "BatchMatMulOptions",
        node.inputs,
        builder.output(node),
        adjX=first,
        adjY=second,
    )


@emits(LayerNorm)
def layer_norm(builder: TfliteBuilder, node: LayerNorm) -> None:
    """Compute ``(x - mean) / sqrt(variance + eps) * gain + shift``: there is no builtin."""
    axis = builder.node_constant(node, "axis", np.array([len(node.shape) - 1], np.int32))
    shape = node.shape
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
