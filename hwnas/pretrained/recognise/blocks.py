"""Groups of layers as blocks: a grammar of mobile and residual networks.

Each rule takes groups whose inputs are those of the block, so that a network that is read to its
end computes what its blocks compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import size_of
from hwnas.errors import UsageError
from hwnas.pretrained.recognise.groups import Group, Other
from hwnas.pretrained.recognise.layers import IMAGE
from hwnas.pretrained.recognise.messages import unrecognised
from hwnas.pretrained.recognise.pairs import pair_convolutions
from hwnas.pretrained.recognise.reading import Match, ModulePairs, Place
from hwnas.pretrained.recognise.rules.concatenating import (
    dense_layer,
    norm_logits,
    shuffle_unit,
    transition,
)
from hwnas.pretrained.recognise.rules.convnext import convnext, layer_norm, patches
from hwnas.pretrained.recognise.rules.ends import conv, global_pool, hidden, logits, max_pool
from hwnas.pretrained.recognise.rules.mobile import depthwise_separable, fused_mbconv, mbconv, uib
from hwnas.pretrained.recognise.rules.residual import residual
from hwnas.spaces.published import check_pixels

RULES: tuple[Callable[[Place], Match | None], ...] = (
    mbconv,
    uib,
    depthwise_separable,
    residual,
    shuffle_unit,
    dense_layer,
    transition,
    norm_logits,
    fused_mbconv,
    convnext,
    layer_norm,
    patches,
    conv,
    max_pool,
    hidden,
    logits,
    global_pool,
)
"""The rules in the order in which they are tried."""
LAST = ("logits", "norm_logits")
"""The blocks that a network may end in."""


def read_blocks(
    groups: Sequence[Group], output: int, input_shape: tuple[int, int, int], network: str
) -> tuple[tuple[Block, ...], ModulePairs]:
    """Return the blocks of a whole network and the module pairs, with names in `Network`.

    ``output`` is the index of the network's last layer. Raises `UsageError` that names the first
    module that begins no block.
    """
    matches: list[Match] = []
    place = Place(groups, IMAGE, input_shape[0], size_of(*input_shape[1:]))
    while place.groups:
        match = _match(place)
        if match is None:
            raise unrecognised(network, place.groups[0])
        check_pixels(network, match.block, input_shape)
        matches.append(match)
        place = _next_place(place, match)
    matches = pair_convolutions(matches)
    if place.value != output or not matches or matches[-1].block.op not in LAST:
        raise UsageError(f"{network}: does not end in a global pool and a linear layer")
    modules = {
        f"blocks.{number}.{ours}".rstrip("."): theirs
        for number, match in enumerate(matches)
        for ours, theirs in match.modules.items()
    }
    return tuple(match.block for match in matches), modules


def _next_place(place: Place, match: Match) -> Place:
    last, rest, block = place.groups[match.groups - 1], place.groups[match.groups :], match.block
    layer = last.layer if isinstance(last, Other) else None
    parts = layer.inputs if layer is not None and layer.kind == "concat" else ()
    return Place(rest, last.output, block.out_channels, block.out_size, parts)


def _match(place: Place) -> Match | None:
    matches = (rule(place) for rule in RULES)
    return next((match for match in matches if match is not None), None)
