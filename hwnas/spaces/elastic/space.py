"""The networks that can be cut from a trained one: smaller images, fewer and narrower blocks.

The largest network of the space is the trained network itself, and all others take their weights
from it. The first decision is the resolution; then each block that can be cut has a decision: keep
it, leave it out, or give it fewer inner channels or a smaller kernel. The widths between the blocks
stay, because the channels of a whole stage depend on each other through its shortcuts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cached_property
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype, round_channels
from hwnas.architecture.size import Size, axes, size_of, size_text
from hwnas.errors import UsageError
from hwnas.spaces.published import adapt
from hwnas.spaces.space import Baseline, Decision, Site, check_genotype

WIDTHS = (6, 5, 4, 3)
"""Inner channels that a block may keep, in sixths."""
KERNEL_NAMES = ("", "smaller kernel", "smallest kernel")
"""Names of depthwise kernels that are smaller by 0, 1 and 2 steps; two steps reduce 7 to 3."""
SIZE_STEP_PX = 8
"""Step between two resolutions. Strides need not divide a resolution: the padding of each block
follows from its own size, and the last pooling accepts any size."""
MIN_SIZE_SHARE = 0.4
"""Smallest resolution, as a share of the largest."""
DEFAULT_MACS_SHARE = 0.5
"""MACs of the default network, as a share of the largest network's."""
MIN_INNER_CHANNELS = 8


class Cut(msgspec.Struct, frozen=True):
    """An option of a block: the part of it that remains."""

    sixths: int = 6
    """Inner channels that remain, in sixths."""
    kernel_steps: int = 0
    """Steps of 2 by which each depthwise kernel is smaller, but not below 3."""
    skipped: bool = False

    @property
    def name(self) -> str:
        if self.skipped:
            return "skip"
        names = [f"{self.sixths}/6 width"] if self.sixths < 6 else []
        names += [KERNEL_NAMES[self.kernel_steps]] if self.kernel_steps else []
        return ", ".join(names) or "keep"


def elastic_space(name: str, original: Architecture) -> ElasticSpace:
    """Return the space of the networks that can be cut from ``original``, a chain of blocks.

    ``original`` has the resolution and the classes of the data. Raises `UsageError` for a network
    of which neither a block nor the resolution can be changed.
    """
    if original.inputs:
        raise UsageError(
            f"{name}: only a chain of blocks can be cut, and this network has branches"
        )
    sizes = _sizes(*original.input_shape[1:])
    space = ElasticSpace(name, original, tuple(size for size in sizes if _fits(original, size)))
    if len(space.sizes) == 1 and not space.elastic:
        ops = ", ".join(sorted({block.op for block in original.blocks}))
        raise UsageError(
            f"{name}: nothing of this network can be cut: its images are small and its blocks "
            f"({ops}) have no inner channels and no shortcut"
        )
    return space


def _sizes(height: int, width: int) -> tuple[Size, ...]:
    smallest_px = max(32, MIN_SIZE_SHARE * height)
    steps = range(1, height // SIZE_STEP_PX + 1)
    below = [size for step in steps if (size := SIZE_STEP_PX * step) < height]
    heights = [size for size in reversed(below) if size >= smallest_px]
    widths = [
        max(round(width * size / height / SIZE_STEP_PX), 1) * SIZE_STEP_PX for size in heights
    ]
    return (size_of(height, width), *map(size_of, heights, widths))


def _fits(original: Architecture, size: Size) -> bool:
    """Return whether each block outputs at least one pixel for images of ``size``."""
    try:
        adapt(original, (original.input_shape[0], *axes(size)), original.num_classes)
    except UsageError:
        return False
    return True


class ElasticSpace(msgspec.Struct, frozen=True, dict=True):
    """The networks that can be cut from a trained network."""

    name: str
    original: Architecture
    sizes: tuple[Size, ...]
    """Heights and widths of the images in pixels, the largest first."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.original.input_shape

    @property
    def num_classes(self) -> int:
        return self.original.num_classes

    @cached_property
    def cuts(self) -> tuple[tuple[Cut, ...], ...]:
        """The options of each block of the original; only `Cut` () if the block cannot be
        changed."""
        return tuple(map(_cuts, self.original.blocks))

    @cached_property
    def elastic(self) -> tuple[int, ...]:
        """The blocks with several options: one for each decision after the first."""
        return tuple(place for place, cuts in enumerate(self.cuts) if len(cuts) > 1)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        resolution = Decision("resolution", tuple(f"{size_text(size)} px" for size in self.sizes))
        return (
            resolution,
            *(
                Decision(f"block {place}", tuple(cut.name for cut in self.cuts[place]))
                for place in self.elastic
            ),
        )

    @property
    def size(self) -> int:
        """Number of networks."""
        return math.prod(len(decision.candidates) for decision in self.decisions)

    @property
    def fixed(self) -> tuple[Block, ...]:
        """None: every block has the size of the resolution (see `sites`)."""
        return ()

    @cached_property
    def originals(self) -> tuple[Architecture, ...]:
        """The whole network at each of `sizes`."""
        channels = self.input_shape[0]
        return tuple(
            adapt(self.original, (channels, *axes(size)), self.num_classes) for size in self.sizes
        )

    def block(self, size: int, place: int, candidate: int) -> Block:
        """Return the block at ``place`` after a candidate's cut.

        ``size`` is the index of a resolution in `sizes`.
        """
        return cut_block(self.originals[size].blocks[place], self.cuts[place][candidate])

    def architecture(self, genotype: Genotype) -> Architecture:
        """Return the network of a genotype. Raises `UsageError` for one of another space."""
        check_genotype(genotype, self.name, self.decisions)
        size, *choices = genotype.choices
        cut = dict(zip(self.elastic, choices, strict=True))
        original = self.originals[size]
        blocks = tuple(
            self.block(size, place, cut.get(place, 0)) for place in range(len(self.cuts))
        )
        return msgspec.structs.replace(original, genotype=genotype, blocks=blocks)

    def genotype(self, size: int, choices: Iterable[int] | None = None) -> Genotype:
        """Return the genotype of a resolution (its index) and the blocks' candidates; by default
        all blocks are kept."""
        whole = (0,) * len(self.elastic)
        return Genotype(self.name, (size, *(whole if choices is None else choices)))

    def cut_names(self, genotype: Genotype) -> tuple[str, ...]:
        """Return the name of the cut of each block that can be cut, see `Cut.name`."""
        choices = genotype.choices[1:]
        return tuple(self.cuts[p][c].name for p, c in zip(self.elastic, choices, strict=True))

    @property
    def largest(self) -> Genotype:
        """The trained network itself."""
        return self.genotype(0)

    @property
    def smallest(self) -> Genotype:
        """The network of the fewest MACs."""
        last = len(self.sizes) - 1
        return self.genotype(
            last,
            (
                min(
                    range(len(self.cuts[place])),
                    key=lambda candidate: self.block(last, place, candidate).macs,
                )
                for place in self.elastic
            ),
        )

    @property
    def default(self) -> Genotype:
        """The whole network, at the resolution of about half the MACs."""
        goal = DEFAULT_MACS_SHARE * self.originals[0].macs
        sizes = range(len(self.sizes))
        return self.genotype(min(sizes, key=lambda size: abs(self.originals[size].macs - goal)))

    def sites(self) -> Iterable[Site]:
        """Yield the blocks of every candidate at the largest, middle and smallest resolution: a
        sample to be measured, from which those between are predicted.

        Blocks that are never cut belong to the candidates of the resolution.
        """
        elastic = {place: number for number, place in enumerate(self.elastic, 1)}
        last = len(self.sizes) - 1
        for size in sorted({0, last // 2, last}):
            for place, cuts in enumerate(self.cuts):
                for candidate in range(len(cuts)):
                    block = self.block(size, place, candidate)
                    if place in elastic:
                        yield Site(elastic[place], candidate, block)
                    else:
                        yield Site(0, size, block)

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        if architecture.genotype.space != self.name:  # another network
            return (None,) * len(architecture.blocks)
        elastic = {place: number for number, place in enumerate(self.elastic, 1)}
        return tuple(elastic.get(place) for place in range(len(architecture.blocks)))

    def baselines(self) -> Iterable[Baseline]:
        """Yield the whole network at every resolution."""
        for number, size in enumerate(self.sizes):
            network = self.architecture(self.genotype(number))
            yield Baseline(f"{self.name} at {size}", "resolution", network)

    def random(self, rng: Random) -> Genotype:
        """Draw the amount of cutting first, then the cuts: uniform draws would cut half of every
        block."""
        share = rng.random()

        def draw(place: int) -> int:
            return rng.randrange(len(self.cuts[place])) if rng.random() < share else 0

        return self.genotype(
            rng.randrange(len(self.sizes)), [draw(place) for place in self.elastic]
        )

    def sample_sizes(self, count: int, rng: Random) -> list[Genotype]:
        """Return random networks that are spaced evenly in the logarithm of their MACs.

        There are fewer than ``count`` if the space has few networks.
        """
        low, high = (self.architecture(end).macs for end in (self.smallest, self.largest))
        pool = [self.smallest, self.largest, *(self.random(rng) for _ in range(20 * count))]
        macs = {genotype: self.architecture(genotype).macs for genotype in pool}
        sample: dict[Genotype, None] = {}
        count = min(count, len(macs))
        for number in range(count):
            goal = low * (high / low) ** (number / max(1, count - 1))
            left = [genotype for genotype in macs if genotype not in sample]
            sample[min(left, key=lambda each: abs(math.log(macs[each] / goal)))] = None
        return list(sample)

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        choices = genotype.choices
        for place, decision in enumerate(self.decisions):
            for candidate in range(len(decision.candidates)):
                if candidate != choices[place]:
                    yield Genotype(self.name, (*choices[:place], candidate, *choices[place + 1 :]))


def _cuts(block: Block) -> tuple[Cut, ...]:
    """Return the options of a block, the whole block first; each gives another block."""
    steps = range(len(KERNEL_NAMES))  # those that leave the same block are dropped below
    sixths = WIDTHS if block.has_inner_channels else WIDTHS[:1]
    options = [Cut(sixth, step) for step in steps for sixth in sixths]
    options += [Cut(skipped=True)] if block.residual else []
    by_block: dict[Block, Cut] = {}
    for cut in options:
        left = cut_block(block, cut)
        if cut.skipped or left.has_inner_channels == block.has_inner_channels:
            by_block.setdefault(left, cut)  # a ratio of 1 means no expansion, another block
    return tuple(by_block.values())


def cut_block(block: Block, cut: Cut) -> Block:
    """Return ``block`` after ``cut``; ``identity`` if the cut leaves it out."""
    if cut.skipped:
        return Block("identity", block.in_channels, block.out_channels, 1, 1, 1, block.in_size)
    if cut.kernel_steps and block.spec.has_depthwise:
        sizes = block.start_kernel_size, block.kernel_size
        start, size = (max(min(each, 3), each - 2 * cut.kernel_steps) for each in sizes)
        block = msgspec.structs.replace(block, start_kernel_size=start, kernel_size=size)
    if cut.sixths == 6:
        return block
    divisor = block.group_width or MIN_INNER_CHANNELS
    mid = min(round_channels(block.mid_channels * cut.sixths / 6, divisor), block.mid_channels)
    return msgspec.structs.replace(block, expand_ratio=mid / block.in_channels)
