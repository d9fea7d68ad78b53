"""The blocks of ResNet, ResNeXt and RegNet, with the stride in the kxk convolution."""

from __future__ import annotations

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.gates import with_gate
from hwnas.pretrained.recognise.groups import Conv
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def residual(place: Place) -> Match | None:
    """Read [1x1,] kxk and a last convolution, and the sum with the input, with activation.

    Behind a kxk convolution between two of 1x1 may be a squeeze-excite. Where the shapes differ,
    the input goes through a 1x1 convolution, which may come first or last.
    """
    rest = Reading(place)
    shortcut = rest.side(_is_shortcut)
    reduce = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    spatial = rest.conv(lambda conv: not conv.depthwise and conv.activation in ACTIVATIONS)
    gate = rest.gate()
    last = rest.conv(lambda conv: conv.dense and conv.stride == 1 and not conv.activation)
    shortcut = shortcut or rest.side(_is_shortcut)
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
        group_width=0 if spatial.dense else spatial.group_width,
    )
    gated = with_gate(block, gate)
    stride = block.stride if shortcut is None else shortcut.stride
    if block.residual != (shortcut is None) or stride != block.stride or gated is None:
        return None
    block, gate_pairs = gated
    layers = {"first": spatial, "last": last}
    if reduce is not None:
        layers = {"reduce": reduce, "spatial": spatial, "restore": last}
    elif gate is not None or not spatial.dense:
        return None  # a basic block of ours has neither
    pairs = conv_norms({f"layers.{name}": conv for name, conv in layers.items()})
    taken = len(place.groups) - len(rest.groups) + 1
    return Match(block, pairs | gate_pairs | conv_norms({"shortcut": shortcut}), taken)


def _is_shortcut(conv: Conv) -> bool:
    return conv.dense and conv.kernel_size == 1 and not conv.activation


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
