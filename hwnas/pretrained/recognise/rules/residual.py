"""The blocks of ResNet, -D, ResNeXt, RegNet and SENet, with the stride in the kxk convolution."""

from __future__ import annotations

from torch import nn

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.groups import Conv, Other
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of
from hwnas.pretrained.recognise.rules.gates import with_gate


def residual(place: Place) -> Match | None:
    """Read [1x1,] kxk and a last convolution, and the sum with the input, with activation.

    Behind a kxk convolution between two of 1x1, or behind the last, may be a squeeze-excite. Where
    the shapes differ, the input goes through a 1x1 convolution, in ResNet-D behind an average pool;
    they may come first or last.
    """
    rest = Reading(place)
    pool, shortcut = _shortcut(rest)
    reduce = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    spatial = rest.conv(lambda conv: not conv.depthwise and conv.activation in ACTIVATIONS)
    gate = rest.gate()
    last = rest.conv(lambda conv: conv.dense and conv.stride == 1 and not conv.activation)
    output_gate = rest.gate()
    if shortcut is None:
        pool, shortcut = _shortcut(rest)
    activation = rest.total(place.value if shortcut is None else shortcut.output)
    if gate is not None and output_gate is not None:
        return None
    if spatial is None or last is None or not _are_ours(reduce, spatial, last, activation):
        return None
    if pool is not None and not _averages_pairs(pool, spatial.stride):
        return None
    op = "basic" if reduce is None else "bottleneck"
    op += "" if output_gate is None else "_se"
    block = Block(
        op if pool is None else f"{op}_d",
        place.channels,
        last.out_channels,
        spatial.kernel_size,
        spatial.stride,
        spatial.out_channels / place.channels,
        place.size,
        activation,
        group_width=0 if spatial.dense else spatial.group_width,
    )
    gated = with_gate(block, gate or output_gate, "layers.se" if gate is not None else "gate")
    stride = 1 if shortcut is None else shortcut.stride
    expected = 1 if shortcut is None or pool is not None else block.stride
    if block.residual != (shortcut is None) or stride != expected or gated is None:
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


def _shortcut(rest: Reading) -> tuple[Other | None, Conv | None]:
    """Take the convolution of the block's input, and the average pool before it."""
    pool = rest.side_pool()
    return pool, rest.side(_is_shortcut, None if pool is None else pool.output)


def _averages_pairs(pool: Other, stride: int) -> bool:
    """Return whether a pool is that of ResNet-D: 2x2, of what there is at the border."""
    module = pool.layer.module
    assert isinstance(module, nn.AvgPool2d)
    return (
        (module.kernel_size, module.stride, module.padding) == (2, stride, 0)
        and module.ceil_mode
        and not module.count_include_pad
        and module.divisor_override is None
    )


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
