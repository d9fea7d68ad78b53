"""Applying the steps of a growing space (`hwnas.spaces.grown.steps`) to trained networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwnas.nn.growth.chain import deeper, wider
from hwnas.nn.growth.dense import dense_deeper, dense_wider
from hwnas.nn.growth.mobile import block_after, larger_kernel, wider_expansion
from hwnas.nn.growth.shrink import narrower, narrower_expansion, shallower, skip_block
from hwnas.nn.growth.transforms import DEEPER_NOISE, WIDER_NOISE, Net
from hwnas.spaces.grown.space import Layers, Place
from hwnas.spaces.grown.steps import Growable, Step, apply_step


def grown_net(
    space: Growable,
    layers: Layers,
    net: Net,
    steps: Sequence[Step],
    images: Tensor,
    generator: torch.Generator,
    noise: float = 1.0,
) -> Net:
    """Apply ``steps`` to the trained network ``net`` with ``layers``.

    ``images [N, C, H, W]`` set the batch norms of added layers. ``noise`` multiplies that of the
    EAS code; with 0 growing steps preserve the function exactly.
    """
    for step in steps:
        net = _apply(space, layers, net, step, images, generator, noise)
        layers = apply_step(space, layers, step)
    return net


def _apply(
    space: Growable,
    layers: Layers,
    net: Net,
    step: Step,
    images: Tensor,
    generator: torch.Generator,
    noise: float,
) -> Net:
    wanted = Place(step.stage, step.layer)
    places = [at for _, at in space.placed_blocks(layers)]
    place = places.index(wanted)
    if space.family == "mobile":
        last = places.index(Place(step.stage, len(layers[step.stage]) - 1))
        return _mobile(net, place, last, step, generator, noise)
    dense = space.family == "dense"
    if step.kind == "narrower":
        return narrower(net, place, step.value)
    if step.kind == "shallower":
        return shallower(net, place)
    if step.kind == "wider":
        grow = dense_wider if dense else wider
        return grow(net, place, step.value, generator, noise * WIDER_NOISE)
    if dense:
        return dense_deeper(net, place, generator, noise * DEEPER_NOISE)
    return deeper(net, place, step.value, images, generator, noise * DEEPER_NOISE)


def _mobile(
    net: Net, place: int, last: int, step: Step, generator: torch.Generator, noise: float
) -> Net:
    """Apply ``step`` to the MBConv at index ``place``; ``last`` is the last block of its stage."""
    if step.kind == "narrower":
        return narrower_expansion(net, place, step.value)
    if step.kind == "shallower":
        return skip_block(net, place, last)
    if step.kind == "wider":
        return wider_expansion(net, place, step.value, generator, noise * WIDER_NOISE)
    if step.kind == "larger":
        return larger_kernel(net, place, step.value)
    return block_after(net, place, step.value, generator)
