"""Fixed pieces: what no rule reads, between two cuts of a network, as a graph of its layers.

A cut is behind a layer whose output is all that later layers take of what was computed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.piece.shapes import value_shapes
from hwnas.architecture.piece.steps import Padding, Pair, Step, piece_text
from hwnas.errors import UsageError
from hwnas.pretrained.recognise.kinds import Layer
from hwnas.pretrained.recognise.messages import unrecognised
from hwnas.pretrained.recognise.reading import Match, ModulePairs, Place, pads_same

CHUNKS = {"first_half": (0, 2), "second_half": (1, 2)}
SAME_NAME = ("norm", "add", "mul", "concat", "resize")
"""Kinds of layers that are steps of the same name without shapes."""


def is_cut(layers: Sequence[Layer], place: int, parts: tuple[int, ...] = ()) -> bool:
    """Return whether later layers take no value but the output of the layer at ``place``.

    ``parts`` are the layers whose outputs that value concatenates: a later concatenation may take
    them in its place, as in DenseNet.
    """
    for layer in layers[place + 1 :]:
        inputs = layer.inputs
        if parts and layer.kind == "concat" and inputs[: len(parts)] == parts:
            inputs = inputs[len(parts) :]
        if any(source < place for source in inputs):
            return False
    return True


def read_piece(place: Place, layers: Sequence[Layer], count: int, network: str) -> Match:
    """Return the first ``count`` groups of a place as a fixed piece.

    Raises `UsageError` that names the first layer which has no step.
    """
    indices = range(place.value + 1, place.groups[count - 1].output + 1)
    values, steps, pairs = {place.value: 0}, list[Step](), ModulePairs()
    for number, index in enumerate(indices, 1):
        layer = layers[index]
        inputs = tuple(values.get(source, -1) for source in layer.inputs)
        step = _step(layer, inputs)
        if step is None or min(inputs) < 0:
            raise unrecognised(network, layer)
        steps.append(step)
        values[index] = number
        if layer.kind == "scale":
            pairs[f"layers.{number}.weight"] = layer.path
        elif layer.kind in ("conv", "linear", "norm", "layer_norm", "response_norm"):
            pairs[f"layers.{number}"] = layer.path
    text = piece_text(steps)
    try:
        shapes = value_shapes(text, place.channels, place.size)
    except UsageError as error:
        path = layers[place.value + 1].path
        raise UsageError(f"{network}: {path} and what follows it: {error}") from None
    for index, step in zip(indices, steps, strict=True):
        if _in_channels(layers[index]) not in (0, shapes[step.inputs[0]].channels):
            raise unrecognised(network, layers[index])
    block = Block("piece", place.channels, shapes[-1].channels, 1, 1, 1, place.size, piece=text)
    return Match(block, pairs, count)


def _in_channels(layer: Layer) -> int:
    """Return the channels that a layer with weights expects, 0 for one that takes any number."""
    if layer.kind == "scale" and layer.span[1] > 1:
        return layer.span[1]
    match layer.module:
        case nn.Conv2d():
            return layer.module.in_channels
        case nn.Linear():
            return layer.module.in_features
        case nn.BatchNorm2d():
            return layer.module.num_features
        case nn.LayerNorm():
            return layer.module.normalized_shape[0]
        case _:
            return 0


def _step(layer: Layer, inputs: tuple[int, ...]) -> Step | None:
    """Return the step that computes what a layer computes, `None` where there is none."""
    module: Any = layer.module
    match layer.kind:
        case "conv":
            return _conv(module, inputs)
        case "linear":
            return Step("conv", inputs, module.out_features, bias=module.bias is not None)
        case "act":
            return Step(layer.activation, inputs, value=layer.value)
        case "pool":
            return Step("global_pool", inputs)
        case "max_pool" | "avg_pool":
            return _pool(layer.kind, module, inputs)
        case "layer_norm":
            plain = len(module.normalized_shape) == 1 and module.bias is not None
            return Step("layer_norm", inputs, value=module.eps) if plain else None
        case "response_norm":
            return Step("response_norm", inputs, value=module.eps)
        case "scale":
            return Step("scale", inputs, 1 if layer.span[1] == 1 else 0)
        case "times" | "plus":
            return Step(layer.kind, inputs, value=layer.value)
        case "slice" | "chunk":
            return Step(layer.kind, inputs, span=layer.span)
        case "first_half" | "second_half":
            return Step("chunk", inputs, span=CHUNKS[layer.kind])
        case "shuffle":
            return Step("shuffle", inputs, groups=2)
        case kind:
            return Step(kind, inputs) if kind in SAME_NAME else None


def _conv(module: nn.Conv2d, inputs: tuple[int, ...]) -> Step | None:
    if module.padding_mode != "zeros":
        return None
    sizes = (module.kernel_size, module.stride, module.dilation)
    kernel, stride, dilation = map(_pair, sizes)
    padding: Padding | None = (0, 0)
    if pads_same(module):
        padding = _same_padding(kernel, stride, dilation)
    elif not isinstance(module.padding, str):
        padding = _pair(module.padding)
    if padding is None:
        return None
    bias = module.bias is not None
    channels, groups = module.out_channels, module.groups
    return Step("conv", inputs, channels, kernel, stride, padding, dilation, groups, bias)


def _same_padding(kernel: Pair, stride: Pair, dilation: Pair) -> Padding | None:
    """Return the padding "same" of a convolution, in pixels where it is the same at every size;
    `None` if a step cannot have it."""
    rows, columns = (each * (size - 1) for size, each in zip(kernel, dilation, strict=True))
    if stride == (1, 1) and rows % 2 == columns % 2 == 0:
        return rows // 2, columns // 2
    is_square = kernel[0] == kernel[1] and stride[0] == stride[1]
    return "same" if is_square and dilation == (1, 1) else None


def _pool(op: str, module: Any, inputs: tuple[int, ...]) -> Step | None:
    is_max = op == "max_pool"
    if not is_max and module.divisor_override is not None:
        return None
    return Step(
        op,
        inputs,
        kernel=_pair(module.kernel_size),
        stride=_pair(module.stride),
        padding=_pair(module.padding),
        dilation=_pair(module.dilation) if is_max else (1, 1),
        ceil=module.ceil_mode,
        counts_padding=not is_max and module.count_include_pad,
    )


def _pair(value: Any) -> Pair:
    height, width = value if isinstance(value, tuple | list) else (value, value)
    return cast(Pair, (int(height), int(width)))
