"""The blocks of ConvNeXt, and its layer norms between them."""

from __future__ import annotations

from torch import nn

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.nn.blocks.convnext import LAYER_NORM_EPS
from hwnas.pretrained.recognise.groups import Other
from hwnas.pretrained.recognise.reading import Match, Place, Reading, conv_norms, padding_of


def convnext(place: Place) -> Match | None:
    """Read depthwise without activation, layer norm, two linear layers of pixels, and the sum.

    The first of them has the activation; behind the second may be a scale of each channel.
    """
    rest = Reading(place)
    depthwise = rest.conv(lambda conv: conv.depthwise and not conv.activation)
    norm = _norm(rest)
    expand, project = rest.linear(), rest.linear()
    scale = rest.scale()
    if depthwise is None or norm is None or expand is None or project is None:
        return None
    if (
        expand.activation not in ACTIVATIONS
        or project.activation
        or padding_of(depthwise) == "same"
    ):
        return None
    block = Block(
        "convnext",
        place.channels,
        project.out_channels,
        depthwise.kernel_size,
        depthwise.stride,
        expand.out_channels / place.channels,
        place.size,
        expand.activation,
    )
    pairs = conv_norms({"layers.depthwise": depthwise}) | {
        "layers.norm": norm.path,
        "layers.expand.conv": expand.path,
        "layers.project.conv": project.path,
    }
    if scale is not None:
        pairs["layers.project.norm.weight"] = scale.path
    return rest.match(block, pairs)


def layer_norm(place: Place) -> Match | None:
    """Read a layer norm of the channels of each pixel."""
    rest = Reading(place)
    norm = _norm(rest)
    if norm is None:
        return None
    channels = place.channels
    block = Block("layer_norm", channels, channels, 1, 1, 1, place.size)
    return rest.match(block, {"": norm.path})


def _norm(rest: Reading) -> Other | None:
    """Take a layer norm of all channels with the epsilon of ours."""
    channels = rest.place.channels
    norm = rest.layer("layer_norm")
    module = norm.layer.module if norm is not None else None
    if not isinstance(module, nn.LayerNorm) or module.bias is None:
        return None
    fits = module.normalized_shape == (channels,) and module.eps == LAYER_NORM_EPS
    return norm if fits else None
