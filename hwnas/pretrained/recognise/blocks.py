"""Groups of layers as blocks: a grammar of mobile and residual networks, and pieces between them.

Each rule takes groups whose inputs are those of the block, and no later layer takes a value from
within a block, so that a network that is read to its end computes what its blocks compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import size_of
from hwnas.errors import UsageError
from hwnas.pretrained.recognise.groups import Conv, Gate, Other, groups_of
from hwnas.pretrained.recognise.kinds import IMAGE, Layer
from hwnas.pretrained.recognise.pairs import pair_convolutions
from hwnas.pretrained.recognise.pieces import is_cut, read_piece
from hwnas.pretrained.recognise.reading import Match, ModulePairs, Place
from hwnas.pretrained.recognise.rules.concatenating import (
    dense_layer,
    norm_logits,
    shuffle_unit,
    transition,
)
from hwnas.pretrained.recognise.rules.convnext import convnext, layer_norm
from hwnas.pretrained.recognise.rules.ends import (
    conv,
    conv_logits,
    global_pool,
    hidden,
    logits,
    max_pool,
    plain_conv,
)
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
    conv_logits,
    fused_mbconv,
    convnext,
    layer_norm,
    conv,
    max_pool,
    hidden,
    logits,
    global_pool,
    plain_conv,
)
"""The rules in the order in which they are tried."""


def read_blocks(
    layers: Sequence[Layer], output: int, input_shape: tuple[int, int, int], network: str
) -> tuple[tuple[Block, ...], ModulePairs]:
    """Return the blocks of a whole network and the module pairs, with names in `Network`.

    ``output`` is the index of the network's last layer. What no rule reads is a fixed piece. Raises
    `UsageError` that names the first module which no piece can hold.
    """
    reader = _Reader(layers, network)
    matches: list[Match] = []
    place = Place(groups_of(layers), IMAGE, input_shape[0], size_of(*input_shape[1:]))
    while place.groups:
        match = reader.match(place)
        check_pixels(network, match.block, input_shape)
        matches.append(match)
        place = next_place(place, match)
    matches = pair_convolutions(matches)
    if place.value != output or not matches or not matches[-1].block.spec.gives_logits:
        raise UsageError(f"{network}: does not end in a global pool and a linear layer")
    modules = {
        f"blocks.{number}.{ours}".rstrip("."): theirs
        for number, match in enumerate(matches)
        for ours, theirs in match.modules.items()
    }
    return tuple(match.block for match in matches), modules


class _Reader:
    """Reads the block at a place: by a rule, or as a fixed piece."""

    def __init__(self, layers: Sequence[Layer], network: str) -> None:
        self.layers, self.network = layers, network

    def match(self, place: Place) -> Match:
        return self._by_rule(place) or self._piece(place)

    def _by_rule(self, place: Place) -> Match | None:
        """Return the block of the first rule that leaves no value to later layers but its own."""
        matches = filter(None, (rule(place) for rule in RULES))
        return next((match for match in matches if self._ends(place, match)), None)

    def _ends(self, place: Place, match: Match) -> bool:
        after = next_place(place, match)
        return is_cut(self.layers, after.value, after.parts)

    def _piece(self, place: Place) -> Match:
        """Return the shortest fixed piece at a place that holds a convolution, and the layers
        without one behind it, up to where a rule reads a block. A shortcut ends a piece."""
        cuts = [
            count
            for count, group in enumerate(place.groups, 1)
            if is_cut(self.layers, group.output)
        ]
        holds_conv = [False] + [
            any(isinstance(group, Conv | Gate) for group in place.groups[start:end])
            for start, end in pairwise([0, *cuts])
        ]
        for number, count in enumerate(cuts, 1):
            piece = read_piece(place, self.layers, count, self.network)
            after = next_place(place, piece)
            if not after.groups or piece.block.residual or self._by_rule(after) is not None:
                return piece
            if any(holds_conv[: number + 1]) and holds_conv[number + 1]:
                return piece
        raise AssertionError("behind the last layer is a cut")


def next_place(place: Place, match: Match) -> Place:
    """Return the place behind a block."""
    last, rest, block = place.groups[match.groups - 1], place.groups[match.groups :], match.block
    layer = last.layer if isinstance(last, Other) else None
    parts = layer.inputs if layer is not None and layer.kind == "concat" else ()
    return Place(rest, last.output, block.out_channels, block.out_size, parts)
