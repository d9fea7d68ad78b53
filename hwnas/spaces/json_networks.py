"""Readers for JSON collections of ProxylessNAS and Once-for-all networks.

Both list the inverted bottlenecks and the widths around them. MobileNetV3 networks of
Once-for-all (Cai, Gan, Wang, Zhang and Han, ICLR 2020, arXiv:1908.09791) end in a 1x1 convolution,
`mix` and the classifier; ProxylessNAS networks in a 1x1 convolution and the classifier.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.size import Size
from hwnas.errors import InvalidFile
from hwnas.files import read_json

IMAGENET_CLASSES = 1000


class DescribedNetwork(msgspec.Struct, frozen=True):
    """A network with the figures of its collection."""

    name: str
    architecture: Architecture
    params: int
    """Number of parameters according to the collection."""
    macs: int
    device: str | None = None
    """Device for which the network was specialised."""
    batch: int = 1
    published_ms: float | None = None
    """Latency on ``device`` as stated by the authors."""
    note10_table_ms: float | None = None
    """Sum over the published block table of a Samsung Note10, if the table has all blocks."""
    top1: float | None = None


def read_once_for_all(path: Path) -> list[DescribedNetwork]:
    """Read a collection of specialised Once-for-all networks (``{"nets": [...]}``)."""
    return [_specialised(path, net) for net in read_json(path, _Specialised).nets]


def read_proxylessnas(path: Path) -> list[DescribedNetwork]:
    """Read a collection of ProxylessNAS networks; those without a chain of MBConv are left out."""
    networks = read_json(path, _Published).networks
    return [
        _published(path, name, msgspec.convert(network, _ProxylessNet))
        for name, network in networks.items()
        if "blocks" in network
    ]


class _OfaBlock(msgspec.Struct, frozen=True):
    cin: int
    cout: int
    mid: int
    k: int
    stride: int
    se: bool
    act: str


class _OfaNet(msgspec.Struct, frozen=True):
    name: str
    device: str | None
    gpu_batch: int | None
    published_latency_ms: float | None
    top1: float
    image_size: int
    params: int
    macs: int
    first_conv_out: int
    first_conv_act: str
    final_expand_out: int | None
    feature_mix_out: int
    blocks: tuple[_OfaBlock, ...]
    note10_lut_ms: float | None = None


class _Specialised(msgspec.Struct, frozen=True):
    nets: tuple[_OfaNet, ...]


class _ProxylessBlock(msgspec.Struct, frozen=True):
    op: str
    k: int = 0
    e: float = 0
    cin: int = 0
    cout: int = 0
    stride: int = 1


class _Widths(msgspec.Struct, frozen=True):
    cin: int
    cout: int


class _ProxylessNet(msgspec.Struct, frozen=True):
    top1: float
    params: int
    macs: int
    first_conv: _Widths
    feature_mix: _Widths
    blocks: tuple[_ProxylessBlock, ...]


class _Published(msgspec.Struct, frozen=True):
    networks: dict[str, dict[str, Any]]


def _specialised(path: Path, net: _OfaNet) -> DescribedNetwork:
    act = _activation(path, net.first_conv_act)
    blocks = [Block("conv", 3, net.first_conv_out, 3, 2, 1, net.image_size, act)]
    for block in net.blocks:
        size, ratio = blocks[-1].out_size, block.mid / block.cin
        blocks.append(
            Block(
                "mbconv",
                block.cin,
                block.cout,
                block.k,
                block.stride,
                ratio,
                size,
                _activation(path, block.act),
                block.se,
            )
        )
    size, width, mixed = blocks[-1].out_size, blocks[-1].out_channels, net.feature_mix_out
    if net.final_expand_out is None:
        blocks += _head(width, mixed, size, act)
    else:
        blocks += [
            Block("conv", width, net.final_expand_out, 1, 1, 1, size, act),
            Block("mix", net.final_expand_out, mixed, 1, 1, 1, size, act),
            Block("logits", mixed, IMAGENET_CLASSES, 1, 1, 1, 1),
        ]
    return DescribedNetwork(
        name=net.name,
        architecture=_architecture(path, net.name, blocks),
        params=net.params,
        macs=net.macs,
        device=net.device,
        batch=net.gpu_batch or 1,
        published_ms=net.published_latency_ms,
        note10_table_ms=net.note10_lut_ms,
        top1=net.top1,
    )


def _published(path: Path, name: str, net: _ProxylessNet) -> DescribedNetwork:
    blocks = [Block("conv", net.first_conv.cin, net.first_conv.cout, 3, 2, 1, 224)]
    for block in net.blocks:
        size, width = blocks[-1].out_size, blocks[-1].out_channels
        blocks.append(
            Block("identity", width, width, 1, 1, 1, size)
            if block.op == "Zero"
            else Block("mbconv", block.cin, block.cout, block.k, block.stride, block.e, size)
        )
    blocks += _head(blocks[-1].out_channels, net.feature_mix.cout, blocks[-1].out_size, "relu6")
    return DescribedNetwork(
        name, _architecture(path, name, blocks), net.params, net.macs, top1=net.top1
    )


def _head(width: int, mixed: int, size: Size, activation: str) -> Iterable[Block]:
    yield Block("conv", width, mixed, 1, 1, 1, size, activation)
    yield Block("logits", mixed, IMAGENET_CLASSES, 1, 1, 1, size)


def _architecture(path: Path, name: str, blocks: list[Block]) -> Architecture:
    for before, block in pairwise(blocks):
        if before.out_channels != block.in_channels:
            raise InvalidFile(
                str(path), f"{name}: {block.key} follows {before.out_channels} channels"
            )
    shape = blocks[0].in_shape
    return Architecture(Genotype(name, ()), tuple(blocks), shape, IMAGENET_CLASSES)


def _activation(path: Path, name: str) -> str:
    names = {"relu6": "relu6", "relu": "relu", "h_swish": "hswish"}
    if name not in names:
        raise InvalidFile(str(path), f"activation is {name!r}, expected {', '.join(names)}")
    return names[name]
