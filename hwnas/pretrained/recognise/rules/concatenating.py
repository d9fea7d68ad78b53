"""Blocks that concatenate their parts: the layers of DenseNet, the units of ShuffleNet."""

from __future__ import annotations

from torch import nn

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.groups import Conv
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def dense_layer(place: Place) -> Match | None:
    """Read norm, ReLU, 1x1 with ReLU and a kxk convolution, appended to the feature maps before."""
    rest = Reading(place)
    norm = rest.norm_relu()
    bottleneck = rest.conv(lambda conv: conv.pointwise and conv.activation == "relu")
    grow = rest.bare_conv()
    if norm is None or bottleneck is None or grow is None:
        return None
    if not rest.concatenated(*(place.parts or (place.value,)), grow.output):
        return None
    growth, ratio = grow.out_channels, bottleneck.out_channels / grow.out_channels
    channels, size = place.channels, grow.kernel_size
    block = Block("dense_layer", channels, channels + growth, size, 1, ratio, place.size, "relu")
    names = {
        "bottleneck.norm": norm.path,
        "bottleneck.conv": bottleneck.path,
        "grow.norm": bottleneck.norm_path,
        "grow.conv": grow.path,
    }
    return rest.match(block, names)


def transition(place: Place) -> Match | None:
    """Read norm, ReLU, a 1x1 convolution and an average pool of 2x2."""
    rest = Reading(place)
    norm = rest.norm_relu()
    narrow = rest.bare_conv()
    pool = rest.layer("avg_pool")
    if norm is None or narrow is None or pool is None or narrow.kernel_size > 1:
        return None
    module = pool.layer.module
    assert isinstance(module, nn.AvgPool2d)
    sizes = [_pair(each) for each in (module.kernel_size, module.stride, module.padding)]
    if sizes != [(2, 2), (2, 2), (0, 0)] or module.ceil_mode or module.divisor_override:
        return None
    out_channels = narrow.out_channels
    block = Block("transition", place.channels, out_channels, 2, 2, 1, place.size, "relu")
    return rest.match(block, {"norm": norm.path, "conv": narrow.path})


def norm_logits(place: Place) -> Match | None:
    """Read norm, ReLU, a global pool and a linear layer, the last of the network."""
    rest = Reading(place)
    norm = rest.norm_relu()
    if norm is None or rest.pool() is None:
        return None
    linear = rest.linear()
    if linear is None or linear.activation or linear.module.bias is None or rest.groups:
        return None
    classes = linear.out_channels
    block = Block("norm_logits", place.channels, classes, 1, 1, 1, place.size, "relu")
    return rest.match(block, {"norm": norm.path, "logits.linear": linear.path})


def shuffle_unit(place: Place) -> Match | None:
    """Read both branches of a unit of ShuffleNet V2, which are concatenated and shuffled.

    A branch is 1x1 with activation, depthwise without and 1x1 with; the other one is a half of the
    channels, or with a stride depthwise without and 1x1 with activation.
    """
    rest = Reading(place)
    first = rest.layer("first_half")
    rest.back()
    depthwise = rest.conv(_is_depthwise) if first is None else None
    pointwise = rest.conv(_is_pointwise) if depthwise is not None else None
    rest.back()
    second = rest.layer("second_half")
    expand, middle, project = map(rest.conv, (_is_pointwise, _is_depthwise, _is_pointwise))
    side = pointwise or first
    if expand is None or middle is None or project is None or side is None:
        return None
    if not rest.concatenated(side.output, project.output) or rest.layer("shuffle") is None:
        return None
    outside = pointwise.out_channels if pointwise is not None else place.channels // 2
    block = Block(
        "shuffle_unit",
        place.channels,
        2 * project.out_channels,
        middle.kernel_size,
        middle.stride,
        expand.out_channels / place.channels,
        place.size,
        expand.activation,
    )
    convs = [conv for conv in (depthwise, pointwise, expand, middle, project) if conv is not None]
    halves = second is not None and place.channels % 2 == 0
    if (first is not None) != halves or (middle.stride == 1) != halves:
        return None
    if outside != project.out_channels or not _are_ours(convs, block):
        return None
    pairs = conv_norms({"side.depthwise": depthwise, "side.pointwise": pointwise})
    layers = {"expand": expand, "depthwise": middle, "project": project}
    return rest.match(block, pairs | conv_norms({f"layers.{k}": c for k, c in layers.items()}))


def _are_ours(convs: list[Conv], block: Block) -> bool:
    """Return whether kernel sizes, strides and activations of a unit are those of our block."""
    depthwise = [conv for conv in convs if conv.depthwise]
    shapes = {(conv.kernel_size, conv.stride, padding_of(conv)) for conv in depthwise}
    activations = {conv.activation for conv in convs if not conv.depthwise}
    expected = {(block.kernel_size, block.stride, "symmetric")}
    return shapes == expected and activations == {block.activation}


def _is_depthwise(conv: Conv) -> bool:
    return conv.depthwise and not conv.activation


def _is_pointwise(conv: Conv) -> bool:
    return conv.pointwise and conv.activation in ACTIVATIONS


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)
