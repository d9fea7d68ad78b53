"""Inverted residuals, with depthwise convolutions or a dense one, and separable convolutions."""

from __future__ import annotations

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of
from hwnas.pretrained.recognise.rules.gates import gated_match


def mbconv(place: Place) -> Match | None:
    """Read [1x1 with activation,] depthwise with activation, [squeeze-excite,] 1x1 without."""
    rest = Reading(place)
    expand = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    depthwise = rest.conv(lambda conv: conv.depthwise and conv.activation in ACTIVATIONS)
    if depthwise is None or (expand is not None and expand.activation != depthwise.activation):
        return None
    gate = rest.gate()
    project = rest.conv(lambda conv: conv.pointwise and not conv.activation)
    if project is None or (expand is not None and expand.out_channels == place.channels):
        return None  # an expansion of ratio 1 is no layer of ours
    block = Block(
        "mbconv",
        place.channels,
        project.out_channels,
        depthwise.kernel_size,
        depthwise.stride,
        depthwise.out_channels / place.channels,
        place.size,
        depthwise.activation,
        padding=padding_of(depthwise),
    )
    layers = {"expand": expand, "depthwise": depthwise, "project": project}
    pairs = conv_norms({f"layers.{name}": conv for name, conv in layers.items()})
    return gated_match(rest, block, pairs, gate)


def uib(place: Place) -> Match | None:
    """Read a universal inverted bottleneck that is no `mbconv`.

    [Depthwise without activation,] 1x1 with, [depthwise with, squeeze-excite,] 1x1 without, and
    behind one without norm perhaps a scale of each channel, as in FastViT.
    """
    rest = Reading(place)
    start = rest.conv(lambda conv: conv.depthwise and not conv.activation)
    expand = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    depthwise = rest.conv(lambda conv: conv.depthwise and conv.activation in ACTIVATIONS)
    gate = rest.gate()
    project = rest.conv(lambda conv: conv.pointwise and not conv.activation)
    last = depthwise or start
    if expand is None or project is None or last is None or padding_of(last) == "same":
        return None
    scale = rest.scale() if project.norm is None else None
    if depthwise is not None:
        starts_strided = start is not None and start.stride > 1
        same_activation = depthwise.activation == expand.activation
        if starts_strided or not same_activation or depthwise.kernel_size == 1:
            return None
    block = Block(
        "uib",
        place.channels,
        project.out_channels,
        depthwise.kernel_size if depthwise is not None else 1,
        last.stride,
        expand.out_channels / place.channels,
        place.size,
        expand.activation,
        start_kernel_size=start.kernel_size if start is not None else 0,
    )
    layers = {"start": start, "expand": expand, "depthwise": depthwise, "project": project}
    pairs = conv_norms({f"layers.{name}": conv for name, conv in layers.items()})
    if scale is not None:
        pairs["layers.project.norm.weight"] = scale.path
    return gated_match(rest, block, pairs, gate)


def depthwise_separable(place: Place) -> Match | None:
    """Read depthwise with activation, [squeeze-excite,] 1x1 with activation."""
    rest = Reading(place)
    depthwise = rest.conv(lambda conv: conv.depthwise and conv.activation in ACTIVATIONS)
    gate = rest.gate()
    pointwise = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    if depthwise is None or pointwise is None or pointwise.activation != depthwise.activation:
        return None
    block = Block(
        "depthwise_separable",
        place.channels,
        pointwise.out_channels,
        depthwise.kernel_size,
        depthwise.stride,
        1,
        place.size,
        depthwise.activation,
        padding=padding_of(depthwise),
    )
    pairs = conv_norms({"layers.depthwise": depthwise, "layers.pointwise": pointwise})
    return gated_match(rest, block, pairs, gate)


def fused_mbconv(place: Place) -> Match | None:
    """Read a convolution with activation and a 1x1 without, or the former with a shortcut."""
    rest = Reading(place)
    dense = rest.conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
    if dense is None:
        return None
    project = rest.conv(lambda conv: conv.pointwise and not conv.activation)
    if project is None and not rest.adds(place.value):
        return None
    if project is not None and dense.out_channels == place.channels:
        return None  # an expansion of ratio 1 has no projection in ours
    block = Block(
        "fused_mbconv",
        place.channels,
        (project or dense).out_channels,
        dense.kernel_size,
        dense.stride,
        dense.out_channels / place.channels if project is not None else 1,
        place.size,
        dense.activation,
        padding=padding_of(dense),
    )
    pairs = conv_norms({"layers.dense": dense, "layers.project": project})
    return rest.match(block, pairs)
