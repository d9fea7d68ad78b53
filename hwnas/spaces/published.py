"""Networks that others published, by name: block lists with their sources and figures.

The ProxylessNAS networks (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332) for ImageNet, and
MobileNetV2 as their baseline. A skipped block is there as ``identity``.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from hwnas.architecture import Architecture, Block, Genotype
from hwnas.errors import UnknownName


class PublishedLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A latency that the authors state; it holds on their software of that year."""

    device: str
    batch: int
    ms: float
    note: str = ""


class PublishedNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network as plain facts."""

    name: str
    source: str
    """Repository, commit and path of the configuration."""
    figures: str
    """Where accuracy and latencies are stated."""
    input_shape: tuple[int, int, int]
    num_classes: int
    blocks: tuple[str, ...]
    """Block keys."""
    dropout: float
    """Before the classifier, in the authors' training."""
    top1: float
    """Percent, on ImageNet's validation set."""
    top5: float | None
    latencies: tuple[PublishedLatency, ...]
    note: str = ""

    @property
    def architecture(self) -> Architecture:
        blocks = tuple(map(Block.from_key, self.blocks))
        return Architecture(Genotype(self.name, ()), blocks, self.input_shape, self.num_classes)


def adapted(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> Architecture:
    """Return a chain of blocks for images of another size and for other classes.

    Strides and widths stay; the first block takes the images' channels, the last gives the classes.
    """
    channels, size, _ = input_shape
    blocks: list[Block] = []
    for block in architecture.blocks:
        width = num_classes if block.op == "logits" else block.out_channels
        blocks.append(
            msgspec.structs.replace(block, in_channels=channels, in_size=size, out_channels=width)
        )
        channels, size = width, blocks[-1].out_size
    return Architecture(architecture.genotype, tuple(blocks), input_shape, num_classes)


def published_names() -> tuple[str, ...]:
    """Return the names of all networks, in the file's order."""
    return tuple(_published())


def published(name: str) -> PublishedNetwork:
    """Return a network by its name. Raises `UnknownName` with the nearest one."""
    networks = _published()
    if name not in networks:
        raise UnknownName("published network", name, networks)
    return networks[name]


@cache
def _published() -> dict[str, PublishedNetwork]:
    text = (files("hwnas.spaces") / "published.json").read_bytes()
    networks = msgspec.json.decode(text, type=tuple[PublishedNetwork, ...])
    return {network.name: network for network in networks}
