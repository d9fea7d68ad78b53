"""Inner channels of blocks: the layers that produce them, and the layer that consumes them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.nn.growth.transforms import remap_outputs, strongest


class Inner(NamedTuple):
    """Inner channels that no other block sees."""

    producers: tuple[str, ...]
    """Layers whose outputs the channels are; layers that a block lacks are left out."""
    consumer: str
    """The layer whose inputs the channels are."""


INNER: dict[str, tuple[Inner, ...]] = {
    **dict.fromkeys(
        ("mbconv", "uib", "shuffle_unit"), (Inner(("expand", "depthwise"), "project"),)
    ),
    "convnext": (Inner(("expand",), "project"),),
    "fused_mbconv": (Inner(("dense",), "project"),),
    **dict.fromkeys(
        ("basic", "basic_d", "basic_se", "basic_se_d", "double_conv"), (Inner(("first",), "last"),)
    ),
    **dict.fromkeys(
        ("bottleneck", "bottleneck_d", "bottleneck_se", "bottleneck_se_d"),
        (Inner(("reduce",), "spatial"), Inner(("spatial",), "restore")),
    ),
}
"""The inner channels of each operation that has any, of `Block.mid_channels` each."""


def inner_channels(block: Block) -> tuple[Inner, ...]:
    """Return the inner channels of a block.

    Groups stay whole, so both sets of a bottleneck with groups are the same.
    """
    if block.groups > 1:
        return (Inner(("reduce", "spatial"), "restore"),)
    return INNER[block.op] if block.has_inner_channels else ()


def select_inner(
    weights: dict[str, Tensor],
    own: str,
    inner: Inner,
    channels: Tensor,
    gates: Tensor | None = None,
) -> None:
    """Select the ``channels [K]`` of ``inner`` in the layers of a block, in place.

    ``own`` is the name of the block's layers in ``weights``; ``gates`` are the channels that remain
    in the bottleneck of a squeeze-excite, see `strongest_gates`.
    """
    remap_outputs(weights, tuple(f"{own}.{layer}" for layer in inner.producers), channels)
    kernel = f"{own}.{inner.consumer}.conv.weight"
    weights[kernel] = weights[kernel][:, channels]
    if gates is not None:
        squeeze, excite = f"{own}.se.squeeze", f"{own}.se.excite"
        remap_outputs(weights, (squeeze,), gates)
        remap_outputs(weights, (excite,), channels)
        weights[f"{squeeze}.weight"] = weights[f"{squeeze}.weight"][:, channels]
        weights[f"{excite}.weight"] = weights[f"{excite}.weight"][:, gates]


def strongest_gates(weights: dict[str, Tensor], own: str, count: int) -> Tensor | None:
    """Return the ``count`` channels with the largest weights in the bottleneck of a squeeze-excite.

    In ascending order; `None` for a block without squeeze-excite. As in Once-for-all, the weights
    are those of the second layer before its outputs are selected.
    """
    excite = weights.get(f"{own}.se.excite.weight")
    return None if excite is None else strongest(excite.transpose(0, 1), count)
