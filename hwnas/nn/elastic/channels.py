"""Selection of the inner channels of a block in all layers that have them."""

from __future__ import annotations

from torch import Tensor

from hwnas.nn.growth.transforms import remap_outputs, strongest

PRODUCERS = ("expand", "dense", "depthwise")
"""Layers whose outputs are the inner channels."""


def select_inner(
    weights: dict[str, Tensor], own: str, channels: Tensor, gates: Tensor | None
) -> None:
    """Select the inner ``channels [K]`` of an MBConv or fused MBConv, in place.

    ``own`` is the name of the block's layers in ``weights``; ``gates`` are the channels that remain
    in the bottleneck of a squeeze-excite, see `strongest_gates`.
    """
    remap_outputs(weights, tuple(f"{own}.{layer}" for layer in PRODUCERS), channels)
    project = f"{own}.project.conv.weight"
    weights[project] = weights[project][:, channels]
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
