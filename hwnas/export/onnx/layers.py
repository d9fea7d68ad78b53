"""ONNX emitters for layers with weights: convolutions, linear layers and layer norm."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Conv, ConvTranspose, LayerNorm, Linear, MatMul
from hwnas.export.onnx.elementwise import add_with_activation
from hwnas.export.onnx.layout import swap_last_axes
from hwnas.export.onnx.model_builder import FLOAT, OnnxBuilder, emits
from hwnas.export.onnx.reductions import add_reduction
from hwnas.export.stored_weights import SAFE_LEVELS, int8_weight, is_large


@emits(Conv)
def conv(builder: OnnxBuilder, node: Conv) -> None:
    (top, bottom), (left, right) = node.padding
    add_with_activation(
        builder,
        node,
        "Conv",
        (*node.inputs, *_weights(builder, node)),
        kernel_shape=node.weight.shape[2:],
        strides=node.stride,
        pads=(top, left, bottom, right),
        dilations=node.dilation,
        group=node.groups,
    )


@emits(ConvTranspose)
def conv_transpose(builder: OnnxBuilder, node: ConvTranspose) -> None:
    """``pads`` crops the end of each axis; where the output is larger, ``output_padding`` adds."""
    axes = zip(
        builder.shapes[node.inputs[0]][2:],
        node.stride,
        node.weight.shape[2:],
        node.dilation,
        node.shape[2:],
        node.begin,
        strict=True,
    )
    ends = [
        (size - 1) * stride + (kernel_size - 1) * dilation + 1 - output_size - begin
        for size, stride, kernel_size, dilation, output_size, begin in axes
    ]
    builder.add(
        "ConvTranspose",
        (*node.inputs, *_weights(builder, node)),
        node.name,
        kernel_shape=node.weight.shape[2:],
        strides=node.stride,
        pads=(*node.begin, *(max(end, 0) for end in ends)),
        output_padding=[max(-end, 0) for end in ends],
        dilations=node.dilation,
        group=node.groups,
    )


@emits(Linear)
def linear(builder: OnnxBuilder, node: Linear) -> None:
    """``Gemm`` takes matrices only; with more axes it is a product and a sum."""
    if builder.precision == "int8-dynamic" and is_large(node.weight):
        _dynamic_linear(builder, node)
        return
    if len(node.shape) == 2:
        inputs = (*node.inputs, *_weights(builder, node))
        add_with_activation(builder, node, "Gemm", inputs, transB=1)
        return
    weight = builder.weight(node, np.ascontiguousarray(node.weight.T), axis=1)
    bias = builder.node_constant(node, "bias", node.bias)
    builder.add("MatMul", (*node.inputs, weight), f"{node.name}.product")
    add_with_activation(builder, node, "Add", (f"{node.name}.product", bias))


def _dynamic_linear(builder: OnnxBuilder, node: Linear) -> None:
    """Round the input by its range in this run, multiply integers, and scale the result.

    ONNX Runtime fuses these operators. It has no fast kernel for convolutions of this kind.
    """
    (value,) = node.inputs
    integers, scale, zero = (f"{value}.{name}" for name in ("rounded", "scale", "zero"))
    if not builder.is_given(integers):
        builder.add("DynamicQuantizeLinear", (value,), integers, scale, zero)
    levels, weight_scale = int8_weight(node.weight.T, axis=1, levels=SAFE_LEVELS)
    owner = builder.owners.owner(node.name, node.weight.T, 1)
    weight = builder.constant(f"{owner}.int8", levels)
    no_shift = builder.constant("no shift", np.int8(0))
    add, name = builder.add, node.name
    add("MatMulInteger", (integers, weight, zero, no_shift), f"{name}.sums")
    add("Cast", (f"{name}.sums",), f"{name}.levels", to=FLOAT)
    add("Mul", (scale, builder.constant(f"{owner}.scale", weight_scale)), f"{name}.level")
    add("Mul", (f"{name}.levels", f"{name}.level"), f"{name}.product")
    bias = builder.node_constant(node, "bias", node.bias)
    add_with_activation(builder, node, "Add", (f"{name}.product", bias))


@emits(MatMul)
def matmul(builder: OnnxBuilder, node: MatMul) -> None:
    operands = zip(("first", "second"), node.inputs, node.swapped, strict=True)
    inputs = tuple(
        swap_last_axes(builder, value, f"{node.name}.{name}") if swapped else value
        for name, value, swapped in operands
    )
    builder.add("MatMul", inputs, node.name)


@emits(LayerNorm)
def layer_norm(builder: OnnxBuilder, node: LayerNorm) -> None:
    """``LayerNormalization`` exists from opset 17 on."""
    if builder.opset < 17:
        _decomposed_layer_norm(builder, node)
        return
    weights = (
        builder.node_constant(node, "gain", node.gain),
        builder.node_constant(node, "shift", node.shift),
    )
    inputs = (*node.inputs, *weights)
    builder.add("LayerNormalization", inputs, node.name, axis=-1, epsilon=node.eps)


def _decomposed_layer_norm(builder: OnnxBuilder, node: LayerNorm) -> None:
    (value,) = node.inputs
    last = (len(node.shape) - 1,)

    def step(op: str, name: str, *inputs: str) -> str:
        output = f"{node.name}.{name}"
        builder.add(op, inputs, output)
        return output

    mean = add_reduction(builder, "mean", value, f"{node.name}.mean", last)
    centred = step("Sub", "centred", value, mean)
    squared = step("Mul", "squared", centred, centred)
    variance = add_reduction(builder, "mean", squared, f"{node.name}.variance", last)
    eps = builder.node_constant(node, "eps", np.float32(node.eps))
    deviation = step("Sqrt", "deviation", step("Add", "more", variance, eps))
    normed = step("Div", "normed", centred, deviation)
    gain = builder.node_constant(node, "gain", node.gain)
    scaled = step("Mul", "scaled", normed, gain)
    shift = builder.node_constant(node, "shift", node.shift)
    builder.add("Add", (scaled, shift), node.name)


def _weights(builder: OnnxBuilder, node: Conv | ConvTranspose | Linear) -> tuple[str, str]:
    axis = 1 if isinstance(node, ConvTranspose) else 0
    return (
        builder.weight(node, node.weight, axis),
        builder.node_constant(node, "bias", node.bias),
    )
