"""Published networks by name: block lists with their sources and figures.

The ProxylessNAS networks (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332) for ImageNet and
CIFAR-10, and MobileNetV2 as their baseline. A skipped block is listed as ``identity``.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.graph import IMAGE, chained
from hwnas.architecture.size import axes, size_of, size_text
from hwnas.errors import UnknownName, UsageError
from hwnas.files import read_json
from hwnas.spaces.tree.toml_file import tree_space


class PublishedLatency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A latency as stated by the authors, for the software of that year."""

    device: str
    batch: int
    ms: float
    note: str = ""


class PublishedNetwork(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network as it is stored in ``published.json``."""

    name: str
    source: str
    """Repository, commit and path of the configuration."""
    figures: str
    """Source of accuracy and latencies."""
    input_shape: tuple[int, int, int]
    num_classes: int
    dropout: float
    """Dropout before the classifier in the authors' training."""
    top1: float
    """Accuracy in percent on the validation set of ImageNet."""
    top5: float | None
    latencies: tuple[PublishedLatency, ...]
    blocks: tuple[str, ...] = ()
    """Block keys of a chain."""
    cells: tuple[str, ...] = ()
    """The twelve edges of each cell in the order of the space `tree`, for a network of it."""
    note: str = ""

    @property
    def architecture(self) -> Architecture:
        genotype = Genotype(self.name, ())
        if not self.cells:
            blocks = tuple(map(Block.from_key, self.blocks))
            return Architecture(genotype, blocks, self.input_shape, self.num_classes)
        space = tree_space("tree", self.input_shape, self.num_classes)
        edges = (edge for cell in self.cells for edge in cell.split())
        choices = Genotype(space.name, tuple(map(space.candidates.index, edges)))
        return msgspec.structs.replace(space.architecture(choices), genotype=genotype)


def adapt(
    architecture: Architecture, input_shape: tuple[int, int, int], num_classes: int
) -> Architecture:
    """Return a network with the same blocks for images of another size and for other classes.

    Strides and widths stay the same, also inner ones; a block takes its input channels and size
    from its inputs. Raises `UsageError` for images of which a block leaves no pixel.
    """
    blocks: list[Block] = []
    for block, sources in zip(
        architecture.blocks, architecture.inputs or chained(architecture.blocks), strict=True
    ):
        channels, size = input_shape[0], size_of(*input_shape[1:])
        if sources[0] != IMAGE:
            channels, size = blocks[sources[0]].out_channels, blocks[sources[0]].out_size
        width = num_classes if block.spec.gives_logits else block.out_channels
        ratio = block.expand_ratio
        if block.has_inner_channels and channels != block.in_channels:  # grey images
            ratio = block.mid_channels / channels
        blocks.append(
            msgspec.structs.replace(
                block,
                in_channels=channels,
                in_size=size,
                out_channels=width,
                expand_ratio=ratio,
            )
        )
        check_pixels(architecture.genotype.space, blocks[-1], input_shape)
    return msgspec.structs.replace(
        architecture, blocks=tuple(blocks), input_shape=input_shape, num_classes=num_classes
    )


def check_pixels(network: str, block: Block, input_shape: tuple[int, int, int]) -> None:
    """Raise `UsageError` if ``block`` of a network leaves no pixel of images of ``input_shape``."""
    if min(axes(block.out_size)) < 1:
        size = size_text(size_of(*input_shape[1:]))
        raise UsageError(
            f"{network}: images of {size} px are too small for it: no pixel remains of "
            f"{block.label}"
        )


def published_names() -> tuple[str, ...]:
    """Return the names of all networks in the order of the file."""
    return tuple(_published())


def published(name: str) -> PublishedNetwork:
    """Return a network by its name. Raises `UnknownName`."""
    networks = _published()
    if name not in networks:
        raise UnknownName("published network", name, networks)
    return networks[name]


@cache
def _published() -> dict[str, PublishedNetwork]:
    file = files("hwnas.spaces") / "published.json"
    networks = read_json(file, tuple[PublishedNetwork, ...])
    return {network.name: network for network in networks}
