"""Layers that belong together: a convolution with its norm and activation, a squeeze-excite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import nn

from hwnas.pretrained.recognise.kinds import IMAGE, Layer

GATES = ("sigmoid", "hardsigmoid")


class Conv(NamedTuple):
    """A convolution or linear layer, its batch norm and its activation."""

    path: str
    source: int
    """Index of the layer whose output it takes."""
    output: int
    """Index of its last layer."""
    module: nn.Conv2d | nn.Linear
    norm: nn.BatchNorm2d | None
    norm_path: str
    activation: str
    """Our name of the activation; empty for none."""

    @property
    def dense(self) -> bool:
        return isinstance(self.module, nn.Linear) or self.module.groups == 1

    @property
    def depthwise(self) -> bool:
        module = self.module
        return (
            isinstance(module, nn.Conv2d)
            and 1 < module.groups == module.in_channels == module.out_channels
        )

    @property
    def group_width(self) -> int:
        """Input channels of a group; all of them where there is one group."""
        return int(self.module.weight.shape[1])

    @property
    def pointwise(self) -> bool:
        return self.dense and self.kernel_size == self.stride == 1

    @property
    def kernel_size(self) -> int:
        return self.module.kernel_size[0] if isinstance(self.module, nn.Conv2d) else 1

    @property
    def stride(self) -> int:
        return self.module.stride[0] if isinstance(self.module, nn.Conv2d) else 1

    @property
    def in_channels(self) -> int:
        return self.module.weight.shape[1] * getattr(self.module, "groups", 1)

    @property
    def out_channels(self) -> int:
        return self.module.weight.shape[0]


class Gate(NamedTuple):
    """A squeeze-excite: global pool, two convolutions, and the product with its input."""

    path: str
    source: int
    output: int
    squeeze: Conv
    excite: Conv

    @property
    def sigmoid(self) -> bool:
        return self.excite.activation == "sigmoid"


class Add(NamedTuple):
    """A sum of two feature maps, with the activation of the sum."""

    path: str
    sources: frozenset[int]
    output: int
    activation: str


class Pool(NamedTuple):
    """A global average pool."""

    path: str
    source: int
    output: int


class Other(NamedTuple):
    """A layer that belongs to no group."""

    path: str
    source: int
    output: int
    layer: Layer


Group = Conv | Gate | Add | Pool | Other


def groups_of(layers: Sequence[Layer]) -> list[Group]:
    """Return the groups of ``layers`` in order; each layer is in exactly one."""
    groups: list[Group] = []
    place = 0
    while place < len(layers):
        group = _gate(layers, place) or _group(layers, place)
        groups.append(group)
        place = group.output + 1
    return groups


def _group(layers: Sequence[Layer], place: int) -> Group:
    layer = layers[place]
    source = layer.inputs[0] if layer.inputs else IMAGE
    if (conv := _conv(layers, place)) is not None:
        return conv
    if layer.kind == "add" and len(layer.inputs) == 2:
        last, activation = _activation(layers, place)
        return Add(layer.path, frozenset(layer.inputs), last, activation)
    if layer.kind == "pool":
        return Pool(layer.path, source, place)
    return Other(layer.path, source, place, layer)


def _conv(layers: Sequence[Layer], place: int) -> Conv | None:
    layer = layers[place]
    if not isinstance(module := layer.module, nn.Conv2d | nn.Linear):
        return None
    norm, norm_path, last = None, "", place
    after = _next(layers, place)
    if after is not None and isinstance(after.module, nn.BatchNorm2d):
        norm, norm_path, last = after.module, after.path, place + 1
    last, activation = _activation(layers, last)
    return Conv(layer.path, layer.inputs[0], last, module, norm, norm_path, activation)


def _activation(layers: Sequence[Layer], place: int) -> tuple[int, str]:
    """Return the index and the name of the activation after a layer, or the layer's own index."""
    after = _next(layers, place)
    if after is None or after.kind != "act":
        return place, ""
    return place + 1, after.activation


def _next(layers: Sequence[Layer], place: int) -> Layer | None:
    """Return the next layer if it takes the output of the layer at ``place`` and nothing else."""
    if place + 1 == len(layers) or layers[place + 1].inputs != (place,):
        return None
    return layers[place + 1]


def _gate(layers: Sequence[Layer], place: int) -> Gate | None:
    """Return the squeeze-excite that begins at a layer."""
    if layers[place].kind != "pool":
        return None
    [source] = layers[place].inputs
    squeeze = _conv_after(layers, place)
    excite = _conv_after(layers, squeeze.output) if squeeze is not None else None
    if squeeze is None or excite is None or excite.activation not in GATES:
        return None
    product = excite.output + 1
    if product == len(layers) or layers[product].kind != "mul":
        return None
    if set(layers[product].inputs) != {source, excite.output}:
        return None
    return Gate(squeeze.path, source, product, squeeze, excite)


def _conv_after(layers: Sequence[Layer], place: int) -> Conv | None:
    conv = _conv(layers, place + 1) if place + 1 < len(layers) else None
    return conv if conv is not None and conv.source == place and conv.norm is None else None
