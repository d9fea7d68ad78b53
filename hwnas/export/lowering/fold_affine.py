"""``y * scale + shift`` for each channel, folded into the convolutions that give ``y``."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from torch import fx

from hwnas.export.graph.nodes import Concat, Conv, ConvTranspose, Linear, Node
from hwnas.export.graph.weights import normal, scaled
from hwnas.export.lowering.lowering import Lowering

Foldable = Conv | ConvTranspose | Linear


def fold(lowering: Lowering, value: str, scale: Any, shift: Any) -> bool:
    """Scale and shift the channels of ``value`` by ``[C]`` in the weights that made it.

    Returns whether that was possible: its makers must have no other users and no activation.
    """
    made = _makers(lowering, value)
    ends = np.cumsum([len(one.bias) for one in made])[:-1]
    for one, a, b in zip(made, np.split(scale, ends), np.split(shift, ends), strict=bool(made)):
        lowering.nodes[one.name] = _scaled(one, a, b)
    return bool(made)


def depthwise(
    lowering: Lowering, node: fx.Node, value: str, scale: Any, shift: Any, view: Any = None
) -> None:
    """Add a 1x1 convolution of its own for what could not be folded."""
    lowering.emit(
        node,
        Conv,
        (value,),
        view,
        weight=normal(scale[:, None, None, None]),
        bias=normal(shift),
        stride=(1, 1),
        padding=((0, 0), (0, 0)),
        dilation=(1, 1),
        groups=len(scale),
    )


def _makers(lowering: Lowering, value: str) -> list[Foldable]:
    """Return the layers whose outputs, one after the other, are ``value`` and nothing else's.

    That is one convolution, or those of a concatenation; none if any has other users.
    """
    made = lowering.nodes.get(value)
    joined = isinstance(made, Concat) and made.axis == 1
    names = made.inputs if made is not None and joined else (value,)
    makers = [
        made
        for name in names
        if isinstance(made := lowering.nodes.get(name), Foldable) and not _fused(made)
    ]
    alone = all(lowering.alone(name) for name in {value, *names})
    return makers if len(makers) == len(names) == len(set(names)) and alone else []


def _fused(made: Node) -> bool:
    return getattr(made, "fused", None) is not None


def _scaled(made: Foldable, scale: Any, shift: Any) -> Foldable:
    bias = normal(made.bias * scale + shift)
    rows = scale.reshape(-1, *(1,) * (made.weight.ndim - 1))
    if isinstance(made, ConvTranspose):  # the output channels are the second axis, per group
        groups, (inputs, channels, *_) = made.groups, made.weight.shape
        rows = np.repeat(scale.reshape(groups, channels), inputs // groups, axis=0)[..., None, None]
    return msgspec.structs.replace(made, weight=scaled(made.weight, rows), bias=bias)
