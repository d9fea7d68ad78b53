"""TFLite emitter for transposed convolutions."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.nodes import Array, ConvTranspose
from hwnas.export.tflite.model_builder import SAME, VALID, TfliteBuilder, emits


@emits(ConvTranspose)
def conv_transpose(builder: TfliteBuilder, node: ConvTranspose) -> None:
    """Compute the full result (VALID) and crop it as PyTorch does, unless SAME gives just that."""
    input_size, output_size = builder.shapes[node.inputs[0]][1:3], node.shape[1:3]
    weight = _dilate(_ungrouped(node.weight, node.groups), node.dilation)
    weight = _reaching(weight, node, input_size)
    windows, channels = weight.shape[2:], node.shape[3]
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
            builder.weight(node, weight.transpose(1, 2, 3, 0), axis=0),
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
        begin = builder.node_constant(node, "begin", np.array((0, *node.begin, 0), np.int32))
        size = builder.node_constant(node, "size", np.array(node.shape, np.int32))
        builder.operator("SLICE", "SliceOptions", (output, begin, size), builder.output(node))


def _reaching(weight: Array, node: ConvTranspose, input_size: tuple[int, ...]) -> Array:
    """Add zeros after a kernel that does not reach the pixels which an output_padding adds."""
    axes = zip(node.begin, node.shape[1:3], input_size, node.stride, weight.shape[2:], strict=True)
    extra = [
        max(begin + output - (size - 1) * stride - window, 0)
        for begin, output, size, stride, window in axes
    ]
    if not any(extra):
        return weight
    return np.pad(weight, ((0, 0), (0, 0), (0, extra[0]), (0, extra[1])))


def _ungrouped(weight: Array, groups: int) -> Array:
    """Return the kernel ``[I, O, h, w]`` of all groups at once: zeros between different groups."""
    if groups == 1:
        return weight
    inputs, channels = weight.shape[0] // groups, weight.shape[1]
    whole = np.zeros((weight.shape[0], channels * groups, *weight.shape[2:]), np.float32)
    for group in range(groups):
        rows = slice(group * inputs, (group + 1) * inputs)
        whole[rows, group * channels : (group + 1) * channels] = weight[rows]
    return whole


def _dilate(weight: Array, dilation: tuple[int, int]) -> Array:
    """Return a dilated kernel written out, with zeros between its weights."""
    if dilation == (1, 1):
        return weight
    size = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    dilated = np.zeros((*weight.shape[:2], *size), np.float32)
    dilated[:, :, :: dilation[0], :: dilation[1]] = weight
    return dilated
