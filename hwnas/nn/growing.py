"""Steps of a space that is grown (`hwnas.spaces.growth`), done to trained networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hwnas.nn.grow import DEEPER_NOISE, WIDER_NOISE, Net
from hwnas.nn.grow_chain import deeper, wider
from hwnas.nn.grow_dense import dense_deeper, dense_wider
from hwnas.nn.shrink import narrower, shallower
from hwnas.spaces.grown import GrownSpace, Layers, Place
from hwnas.spaces.growth import Step, stepped


def grown_net(
    space: GrownSpace,
    layers: Layers,
    net: Net,
    steps: Sequence[Step],
    images: Tensor,
    generator: torch.Generator,
    noise: float = 1.0,
) -> Net:
    """Return ``net``, whose layers are ``layers``, after ``steps``.

    ``images [N, C, H, W]`` set the batch norms of added layers; ``noise`` is times that of the EAS
    code, 0 preserves the function exactly where all steps `preserve` it.
    """
    for step in steps:
        net = _stepped(space, layers, net, step, images, generator, noise)
        layers = stepped(space, layers, step)
    return net


def _stepped(
    space: GrownSpace,
    layers: Layers,
    net: Net,
    step: Step,
    images: Tensor,
    generator: torch.Generator,
    noise: float,
) -> Net:
    wanted = Place(step.stage, step.layer)
    place = next(n for n, (_, at) in enumerate(space.laid_out(layers)) if at == wanted)
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
