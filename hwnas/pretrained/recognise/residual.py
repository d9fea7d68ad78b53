"""The blocks of ResNet: basic ones and bottlenecks, with the stride in the kxk convolution."""

from __future__ import annotations

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.groups import Conv
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def residual(place: Place) -> Match | None:
    """Read [1x1,] kxk and a last convolution, and the sum with the input, with activation.

    Where the shapes differ, the input goes through a 1x1 convolution.
    """
    rest = Reading(place)
    reduce = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    spatial = rest.conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
    last = rest.conv(lambda conv: conv.dense and conv.stride == 1 and not conv.activation)
    shortcut = rest.side(lambda conv: conv.dense and conv.kernel_size == 1 and not conv.activation)
    activation = rest.total(place.value if shortcut is None else shortcut.output)
    if spatial is None or last is None or not _are_ours(reduce, spatial, last, activation):
        return None
    block = Block(
        "basic" if reduce is None else "bottleneck",
        place.channels,
        last.out_channels,
        spatial.kernel_size,
        spatial.stride,
        spatial.out_channels / place.channels,
        place.size,
        activation,
    )
    stride = block.stride if shortcut is None else shortcut.stride
    if block.residual != (shortcut is None) or stride != block.stride:
        return None
    layers = {"first": spatial, "last": last}
    if reduce is not None:
        layers = {"reduce": reduce, "spatial": spatial, "restore": last}
    pairs = conv_norms({f"layers.{name}": conv for name, conv in layers.items()})
    taken = len(place.groups) - len(rest.groups) + 1
    return Match(block, pairs | conv_norms({"shortcut": shortcut}), taken)


def _are_ours(reduce: Conv | None, spatial: Conv, last: Conv, activation: str) -> bool:
    """Return whether kernel sizes, inner widths and activations are those of our blocks."""
    if activation not in ACTIVATIONS or spatial.activation != activation:
        return False
    if padding_of(spatial) == "same":
        return False
    if reduce is None:
        return last.kernel_size == spatial.kernel_size
    same_width = reduce.out_channels == spatial.out_channels
    return last.pointwise and same_width and reduce.activation == activation
