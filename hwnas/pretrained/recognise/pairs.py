"""Plain convolutions in a row as pairs, whose inner channels can be cut."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from hwnas.pretrained.recognise.reading import Match, ModulePairs


def pair_convolutions(matches: Iterable[Match]) -> list[Match]:
    """Return the blocks of a network with each two equal convolutions in a row as one block.

    Both have the same kernel of 3 pixels or more and the same activation, and the second has no
    stride. Of three in a row the last stays single.
    """
    paired: list[Match] = []
    for match in matches:
        if paired and _are_pair(paired[-1], match):
            paired.append(_pair(paired.pop(), match))
        else:
            paired.append(match)
    return paired


def _are_pair(first: Match, last: Match) -> bool:
    blocks = first.block, last.block
    return (
        all(block.op == "conv" and block.padding == "symmetric" for block in blocks)
        and first.block.kernel_size == last.block.kernel_size > 1
        and first.block.kernel_size % 2 == 1
        and first.block.activation == last.block.activation
        and last.block.stride == 1
    )


def _pair(first: Match, last: Match) -> Match:
    block = msgspec.structs.replace(
        first.block,
        op="double_conv",
        out_channels=last.block.out_channels,
        expand_ratio=first.block.out_channels / first.block.in_channels,
    )
    modules = _inside("first", first.modules) | _inside("last", last.modules)
    return Match(block, modules, first.groups + last.groups)


def _inside(layer: str, modules: ModulePairs) -> ModulePairs:
    return {f"layers.{layer}.{ours}": theirs for ours, theirs in modules.items()}
