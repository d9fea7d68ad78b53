"""Spaces whose networks grow from a start network, layer by layer, as in EAS.

Cai, Chen, Zhang, Yu and Wang, "Efficient Architecture Search by Network Transformation", AAAI 2018,
arXiv:1707.04873. A network has a few stages of layers; a layer has a width and a kernel size. The
cost of a layer depends on the layers before it, so latency is predicted for whole networks
(`hwnas.latency_models.cost.NetworkCosts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from math import prod
from random import Random
from typing import Literal, NamedTuple

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.spaces.space import Baseline, Decision, Site, check_genotype

EMPTY = "none"
"""The candidate of a slot without a layer."""
MEASURED_WIDTHS = 4
"""Number of widths, from narrowest to widest, at which blocks are measured in isolation."""
UNIFORM_DEPTH = 2
"""Layers in each stage of a uniform network."""


class Layer(msgspec.Struct, frozen=True):
    width: int
    """Filters of a convolution, units of a fully connected layer, growth of a dense layer,
    expansion of an MBConv."""
    kernel_size: int


Layers = tuple[tuple[Layer, ...], ...]
"""A network: the layers of each stage."""


class Place(NamedTuple):
    """The position of a layer."""

    stage: int
    layer: int


PlacedBlocks = list[tuple[Block, Place | None]]
"""All blocks in order, each with the layer it belongs to; None for stem, pools and classifier."""


class GrownStage(msgspec.Struct, frozen=True, kw_only=True):
    """The layers that a stage may have."""

    widths: tuple[int, ...]
    """Widths of a layer, ascending; a layer is widened to the next one."""
    kernels: tuple[int, ...]
    depth: int
    """Maximum number of layers."""
    start: tuple[Layer, ...]
    default: tuple[Layer, ...]
    stride: int = 1
    """Stride of the first layer."""
    pool: int = 1
    """Kernel and stride of the max pool after the stage; 1: none."""
    fully_connected: bool = False
    """After the global pool: 1x1 convolutions on its single pixel."""
    min_depth: int = 1
    """Minimum number of layers."""

    @property
    def options(self) -> tuple[Layer, ...]:
        return tuple(Layer(width, kernel) for width in self.widths for kernel in self.kernels)


class GrownSpace(msgspec.Struct, frozen=True, dict=True):
    """Networks between a start network and a largest one.

    A stage has a decision for each layer that it may have: the layer of this slot, or none. Empty
    slots have no effect wherever they are; in genotypes that the space itself makes they are last.
    The decisions are not independent: the input of a layer depends on the layers before it.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    stages: tuple[GrownStage, ...]
    family: Literal["plain", "dense"]
    """The function-preserving transformations that grow its networks (`hwnas.nn.growth`)."""
    layout: Callable[[GrownSpace, Layers], PlacedBlocks]
    """Function that lays out the blocks of a network."""
    stem: tuple[Block, ...] = ()
    wider_actions: int = 4
    """Actions in an episode of EAS; its code has 4 for plain networks and 10 for dense ones."""
    deeper_actions: int = 5
    larger_actions: int = 0
    """Actions that enlarge kernels: none."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(
                f"stage {number} layer {slot + 1}",
                tuple(f"{layer.width} k{layer.kernel_size}" for layer in stage.options)
                + ((EMPTY,) if slot else ()),
            )
            for number, stage in enumerate(self.stages, 1)
            for slot in range(stage.depth)
        )

    @property
    def size(self) -> int:
        return prod(
            sum(len(stage.options) ** depth for depth in range(1, stage.depth + 1))
            for stage in self.stages
        )

    @property
    def start(self) -> Genotype:
        """The network with which growth begins."""
        return self.genotype(tuple(stage.start for stage in self.stages))

    @property
    def default(self) -> Genotype:
        return self.genotype(tuple(stage.default for stage in self.stages))

    @property
    def smallest(self) -> Genotype:
        return self.genotype(tuple(stage.options[:1] for stage in self.stages))

    @property
    def largest(self) -> Genotype:
        return self.genotype(tuple(stage.options[-1:] * stage.depth for stage in self.stages))

    @cached_property
    def max_macs(self) -> float:
        """Largest MACs of networks that are sampled, measured or used as baselines."""
        return 4 * self.architecture(self.default).macs

    def genotype(self, layers: Layers) -> Genotype:
        """Return the choices for these layers. Raises `UsageError` for layers outside the space."""
        choices: list[int] = []
        if len(layers) != len(self.stages):
            raise UsageError(f"{self.name} has {len(self.stages)} stages, got {len(layers)}")
        for number, (stage, row) in enumerate(zip(self.stages, layers, strict=True), 1):
            options = stage.options
            if not 1 <= len(row) <= stage.depth:
                raise UsageError(
                    f"stage {number} has 1 to {stage.depth} layers in {self.name}, got {len(row)}"
                )
            for layer in row:
                if layer not in options:
                    raise UsageError(
                        f"stage {number}: no layer of width {layer.width} and kernel "
                        f"{layer.kernel_size} in {self.name}; widths {list(stage.widths)}, kernels "
                        f"{list(stage.kernels)}"
                    )
            choices += [options.index(layer) for layer in row]
            choices += [len(options)] * (stage.depth - len(row))
        return Genotype(self.name, tuple(choices))

    def layers(self, genotype: Genotype) -> Layers:
        """Return the layers of the choices. Raises `UsageError` for those of another space."""
        check_genotype(genotype, self.name, self.decisions)
        rows: list[tuple[Layer, ...]] = []
        first = 0
        for stage in self.stages:
            slots, options = genotype.choices[first : first + stage.depth], stage.options
            rows.append(tuple(options[choice] for choice in slots if choice < len(options)))
            first += stage.depth
        return tuple(rows)

    def placed_blocks(self, layers: Layers) -> PlacedBlocks:
        """Return all blocks in order, each with the layer it belongs to."""
        return self.layout(self, layers)

    def blocks(self, layers: Layers) -> tuple[Block, ...]:
        return tuple(block for block, _ in self.placed_blocks(layers))

    def architecture(self, genotype: Genotype) -> Architecture:
        blocks = self.blocks(self.layers(genotype))
        return Architecture(genotype, blocks, self.input_shape, self.num_classes)

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the decision of each block; empty slots count as well."""
        choices, slots = architecture.genotype.choices, iter(range(len(self.decisions)))
        layers = self.layers(architecture.genotype)
        filled = [slot for slot in slots if self.decisions[slot].candidates[choices[slot]] != EMPTY]
        next_slot = iter(filled)
        return tuple(
            None if at is None else next(next_slot) for _, at in self.placed_blocks(layers)
        )

    @property
    def fixed(self) -> tuple[Block, ...]:
        """The blocks of the default network other than layers: stem, pools, transitions, head."""
        placed_blocks = self.placed_blocks(self.layers(self.default))
        return tuple(block for block, at in placed_blocks if at is None)

    def sites(self) -> Iterable[Site]:
        """Yield blocks of uniform networks and of the start network: a sample to be measured.

        The space has too many blocks to measure all; the model predicts the others. Blocks that are
        no layers are yielded with the layer before them. Blocks with more than twice the MACs of
        the whole default network are left out.
        """
        max_macs = 2 * self.architecture(self.default).macs
        firsts = [sum(stage.depth for stage in self.stages[:n]) for n in range(len(self.stages))]
        seen: set[Block] = set()
        for layers in [
            *self._measured_networks(),
            self.layers(self.start),
            self.layers(self.default),
        ]:
            last = Place(0, 0)
            for block, at in self.placed_blocks(layers):
                last = at or last
                if block in seen or block in self.stem or block.macs > max_macs:
                    continue
                seen.add(block)
                candidate = self.stages[last.stage].options.index(layers[last.stage][last.layer])
                yield Site(firsts[last.stage] + last.layer, candidate, block)

    def uniform(self, share: float, kernel_size: int, depth: int = UNIFORM_DEPTH) -> Layers:
        """Return the network with ``depth`` layers in each stage and widths at ``share`` of the way
        from the narrowest to the widest."""

        def row(stage: GrownStage) -> tuple[Layer, ...]:
            width = stage.widths[round(share * (len(stage.widths) - 1))]
            kernel = min(stage.kernels, key=lambda kernel: abs(kernel - kernel_size))
            return (Layer(width, kernel),) * min(depth, stage.depth)

        return tuple(map(row, self.stages))

    def baselines(self) -> Iterable[Baseline]:
        """Yield uniform networks of kernel 3 and all widths, up to four times the default MACs."""
        steps = min(12, max(len(stage.widths) for stage in self.stages)) - 1
        for number in range(steps + 1):
            layers = self.uniform(number / max(1, steps), 3)
            network = self.architecture(self.genotype(layers))
            if network.macs <= self.max_macs:
                width = layers[0][0].width
                yield Baseline(f"uniform 3x3 x{width}", "uniform", network)

    def random(self, rng: Random) -> Genotype:
        """Draw a network of at most four times the default MACs: its size first, then its layers.

        Most networks of the space are far larger than any budget.
        """
        while True:
            genotype = self._random(rng)
            if self.architecture(genotype).macs <= self.max_macs:
                return genotype

    def sample_sizes(self, count: int, rng: Random) -> list[Genotype]:
        """Return random networks that are spaced evenly in the logarithm of their MACs, from the
        smallest network to four times the default one."""
        low, high = self.architecture(self.smallest).macs, self.max_macs
        pool = [self.random(rng) for _ in range(40 * count)]
        macs = [self.architecture(genotype).macs for genotype in pool]
        sample: dict[Genotype, None] = {}
        for number in range(count):
            target = low * (high / low) ** (number / max(1, count - 1))
            order = sorted(range(len(pool)), key=lambda n: abs(macs[n] / target - target / macs[n]))
            sample[next(pool[n] for n in order if pool[n] not in sample)] = None
        return list(sample)

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all genotypes with a layer changed, or with a layer more or less in a stage."""
        layers = self.layers(genotype)
        for number, (stage, row) in enumerate(zip(self.stages, layers, strict=True)):
            rows = [
                (*row[:place], option, *row[place + 1 :])
                for place in range(len(row))
                for option in stage.options
                if option != row[place]
            ]
            rows += [row[:-1]] if len(row) > 1 else []
            if len(row) < stage.depth:
                rows += [(*row, option) for option in stage.options]
            for changed in rows:
                yield self.genotype((*layers[:number], changed, *layers[number + 1 :]))

    def _random(self, rng: Random) -> Genotype:
        """Draw a size and then a network: depths and widths up to this share of the largest."""
        share = rng.random()

        def row(stage: GrownStage) -> tuple[Layer, ...]:
            widths = stage.widths[: max(1, round(share * len(stage.widths)))]
            depth = rng.randint(1, max(1, round(share * stage.depth)))
            return tuple(Layer(rng.choice(widths), rng.choice(stage.kernels)) for _ in range(depth))

        return self.genotype(tuple(map(row, self.stages)))

    def _measured_networks(self) -> Iterable[Layers]:
        kernels = sorted({kernel for stage in self.stages for kernel in stage.kernels})
        for number in range(MEASURED_WIDTHS):
            for kernel_size in kernels:
                yield self.uniform(number / (MEASURED_WIDTHS - 1), kernel_size)
