"""The layers at both ends of a network: convolutions, a max pool, hidden layers, the classifier."""

from __future__ import annotations

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def conv(place: Place) -> Match | None:
    """Read a convolution with norm and activation."""
    rest = Reading(place)
    conv = rest.padded_conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
    if conv is None:
        return None
    block = Block(
        "conv",
        place.channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        1,
        place.size,
        conv.activation,
        padding=padding_of(conv),
    )
    return rest.match(block, conv_norms({"": conv}))


def plain_conv(place: Place) -> Match | None:
    """Read a dense convolution without activation, such as that of the patches of ConvNeXt."""
    rest = Reading(place)
    conv = rest.padded_conv(lambda conv: conv.dense and not conv.activation)
    if conv is None or (padding := padding_of(conv)) == "same":
        return None
    size, stride = conv.kernel_size, conv.stride
    block = Block(
        "conv_bn",
        place.channels,
        conv.out_channels,
        size,
        stride,
        1,
        place.size,
        padding=padding,
    )
    return rest.match(block, conv_norms({"": conv}))


def max_pool(place: Place) -> Match | None:
    rest = Reading(place)
    pool = rest.max_pool()
    if pool is None:
        return None
    block = Block(
        "max_pool",
        place.channels,
        place.channels,
        pool.kernel_size,
        pool.stride,
        1,
        place.size,
        padding=pool.padding,
    )
    return rest.match(block, {})


def global_pool(place: Place) -> Match | None:
    """Read a global pool that is followed by a convolution with norm, as in MobileNetV4."""
    rest = Reading(place)
    if rest.pool() is None:
        return None
    block = Block("global_pool", place.channels, place.channels, 1, 1, 1, place.size)
    return rest.match(block, {})


def hidden(place: Place) -> Match | None:
    """Read [an average pool and] a linear layer with activation, in front of the last one.

    It takes the single pixel of a global pool, or all pixels of a larger square.
    """
    rest = Reading(place)
    side = 1 if rest.pool() is not None else rest.grid_pool() or place.size
    linear = rest.linear()
    if linear is None or linear.activation not in ACTIVATIONS:
        return None
    if not isinstance(side, int) or linear.in_channels != place.channels * side**2:
        return None
    op = "hidden" if linear.module.bias is not None else "mix"
    if op == "mix" and (place.size == 1 or side > 1):
        return None  # ours always pools, to a pixel
    out_channels, activation = linear.out_channels, linear.activation
    block = Block(op, place.channels, out_channels, side, 1, 1, place.size, activation)
    return rest.match(block, {"conv" if op == "mix" else "linear": linear.path})


def conv_logits(place: Place) -> Match | None:
    """Read a 1x1 convolution [with activation] and a global pool, the last of the network."""
    rest = Reading(place)
    conv = rest.linear()
    if conv is None or rest.pool() is None or rest.groups:
        return None
    if conv.module.bias is None or conv.activation not in ("", *ACTIVATIONS):
        return None
    # without activation both commute
    op, activation = ("conv_logits", conv.activation) if conv.activation else ("logits", "relu6")
    classes = conv.out_channels
    block = Block(op, place.channels, classes, 1, 1, 1, place.size, activation)
    return rest.match(block, {"linear": conv.path})


def logits(place: Place) -> Match | None:
    """Read [a global pool and] a linear layer, the last of the network."""
    rest = Reading(place)
    if rest.pool() is None and place.size != 1:
        return None
    linear = rest.linear()
    if linear is None or linear.activation or linear.module.bias is None or rest.groups:
        return None
    block = Block("logits", place.channels, linear.out_channels, 1, 1, 1, place.size)
    return rest.match(block, {"linear": linear.path})
