"""The layers at both ends of a network: convolutions, a max pool, hidden layers, the classifier."""

from __future__ import annotations

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def conv(place: Place) -> Match | None:
    """Read a convolution with norm and activation."""
    rest = Reading(place)
    conv = rest.conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
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


def max_pool(place: Place) -> Match | None:
    rest = Reading(place)
    pool = rest.max_pool()
    if pool is None:
        return None
    channels, kernel_size, stride = place.channels, pool.kernel_size, pool.stride
    return rest.match(Block("max_pool", channels, channels, kernel_size, stride, 1, place.size), {})


def global_pool(place: Place) -> Match | None:
    """Read a global pool that is followed by a convolution with norm, as in MobileNetV4."""
    rest = Reading(place)
    if rest.pool() is None:
        return None
    block = Block("global_pool", place.channels, place.channels, 1, 1, 1, place.size)
    return rest.match(block, {})


def hidden(place: Place) -> Match | None:
    """Read [a global pool and] a linear layer with activation, in front of the last one."""
    rest = Reading(place)
    if rest.pool() is None and place.size != 1:
        return None
    linear = rest.linear()
    if linear is None or linear.activation not in ACTIVATIONS:
        return None
    op = "hidden" if linear.module.bias is not None else "mix"
    if op == "mix" and place.size == 1:
        return None  # ours always pools
    out_channels, activation = linear.out_channels, linear.activation
    block = Block(op, place.channels, out_channels, 1, 1, 1, place.size, activation)
    return rest.match(block, {"conv" if op == "mix" else "linear": linear.path})


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
