"""Spaces whose networks are grown from a start network, layer by layer: those of EAS.

Cai, Chen, Zhang, Yu and Wang, "Efficient Architecture Search by Network Transformation", AAAI 2018,
arXiv:1707.04873. A network is a few stages of layers; a layer has a width and a kernel size. What a
layer costs depends on the layers before it, so latency is asked for whole networks
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
from hwnas.spaces.space import Baseline, Decision, Site

EMPTY = "none"
"""The candidate of a slot without a layer."""
SAMPLED = 4
"""Widths, from narrowest to widest, at which blocks are measured alone."""
DEPTH = 2
"""Layers of each stage of a uniform network."""


class Layer(msgspec.Struct, frozen=True):
    width: int
    """Filters of a convolution, units of a fully connected layer, growth of a dense layer,
    expansion of an MBConv."""
    kernel_size: int


Layers = tuple[tuple[Layer, ...], ...]
"""A network: the layers of each stage."""


class Place(NamedTuple):
    """Where a layer is."""

    stage: int
    layer: int


LaidOut = list[tuple[Block, Place | None]]
"""All blocks in order, each with the layer it belongs to; stem, pools and classifier have none."""


class GrownStage(msgspec.Struct, frozen=True, kw_only=True):
    """What a run of layers may be."""

    widths: tuple[int, ...]
    """Rising: a layer is widened from one to the next."""
    kernels: tuple[int, ...]
    depth: int
    """Layers at most."""
    start: tuple[Layer, ...]
    usual: tuple[Layer, ...]
    stride: int = 1
    """Of the first layer."""
    pool: int = 1
    """Kernel and stride of the max pool after the stage; 1: none."""
    fully_connected: bool = False
    """Behind the global pool: convolutions of kernel 1 on its one pixel."""
    least: int = 1
    """Layers at least."""

    @property
    def options(self) -> tuple[Layer, ...]:
        return tuple(Layer(width, kernel) for width in self.widths for kernel in self.kernels)


class GrownSpace(msgspec.Struct, frozen=True, dict=True):
    """Networks between a start network and a largest one.

    A stage has as many decisions as it may have layers: the layer of a slot, or none. Empty slots
    have no effect wherever they are; the genotypes that the space itself makes have them last.
    """

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    stages: tuple[GrownStage, ...]
    family: Literal["plain", "dense"]
    """Which function-preserving transformations grow its networks (`hwnas.nn.growth`)."""
    layout: Callable[[GrownSpace, Layers], LaidOut]
    """Lays out all blocks of a network in order, each with the layer it belongs to, if any."""
    stem: tuple[Block, ...] = ()
    wider_actions: int = 4
    """Of an episode of EAS; the paper's code has 4 for plain networks and 10 for dense ones."""
    deeper_actions: int = 5
    larger_actions: int = 0
    """Kernels stay as they are put in."""

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(
                f"stage {number} layer {slot + 1}",
                tuple(f"{one.width} k{one.kernel_size}" for one in stage.options)
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
        """Where growth begins."""
        return self.genotype(tuple(stage.start for stage in self.stages))

    @property
    def usual(self) -> Genotype:
        return self.genotype(tuple(stage.usual for stage in self.stages))

    @property
    def smallest(self) -> Genotype:
        return self.genotype(tuple(stage.options[:1] for stage in self.stages))

    @property
    def largest(self) -> Genotype:
        return self.genotype(tuple(stage.options[-1:] * stage.depth for stage in self.stages))

    @cached_property
    def most_macs(self) -> float:
        """Of networks that are drawn, measured and compared with."""
        return 4 * self.architecture(self.usual).macs

    def genotype(self, layers: Layers) -> Genotype:
        """Return the choices that mean these layers. Raises `UsageError` for what is outside."""
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
        """Return the layers that the choices mean. Raises `UsageError` for another space's."""
        choices = genotype.choices
        if genotype.space != self.name or len(choices) != len(self.decisions):
            raise UsageError(
                f"a genotype of space {genotype.space!r} with {len(choices)} choices does not fit "
                f"space {self.name!r} with {len(self.decisions)} decisions"
            )
        for decision, choice in zip(self.decisions, choices, strict=True):
            if not 0 <= choice < len(decision.candidates):
                known = len(decision.candidates)
                raise UsageError(f"{decision.name}: candidate {choice} of {known} does not exist")
        rows: list[tuple[Layer, ...]] = []
        first = 0
        for stage in self.stages:
            taken, options = choices[first : first + stage.depth], stage.options
            rows.append(tuple(options[choice] for choice in taken if choice < len(options)))
            first += stage.depth
        return tuple(rows)

    def laid_out(self, layers: Layers) -> LaidOut:
        """Return all blocks in order, and the layer that each one is."""
        return self.layout(self, layers)

    def blocks(self, layers: Layers) -> tuple[Block, ...]:
        return tuple(block for block, _ in self.laid_out(layers))

    def architecture(self, genotype: Genotype) -> Architecture:
        blocks = self.blocks(self.layers(genotype))
        return Architecture(genotype, blocks, self.input_shape, self.num_classes)

    def decided(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the decision of each block; slots are counted, empty ones in between too."""
        choices, slots = architecture.genotype.choices, iter(range(len(self.decisions)))
        layers = self.layers(architecture.genotype)
        filled = [slot for slot in slots if self.decisions[slot].candidates[choices[slot]] != EMPTY]
        taken = iter(filled)
        return tuple(None if at is None else next(taken) for _, at in self.laid_out(layers))

    @property
    def fixed(self) -> tuple[Block, ...]:
        """What is no layer, in the widths of the usual network: stem, pools, transitions, end."""
        laid_out = self.laid_out(self.layers(self.usual))
        return tuple(block for block, at in laid_out if at is None)

    def sites(self) -> Iterable[Site]:
        """Yield blocks of uniform networks and of the start: a sample to be measured alone.

        The space has too many blocks to measure all; the model predicts the others. A block that
        is no layer goes with the layer before it. Much larger ones than the usual network are left
        out.
        """
        most = 2 * self.architecture(self.usual).macs
        firsts = [sum(stage.depth for stage in self.stages[:n]) for n in range(len(self.stages))]
        seen: set[Block] = set()
        for layers in [*self._sampled(), self.layers(self.start), self.layers(self.usual)]:
            last = Place(0, 0)
            for block, at in self.laid_out(layers):
                last = at or last
                if block in seen or block in self.stem or block.macs > most:
                    continue
                seen.add(block)
                candidate = self.stages[last.stage].options.index(layers[last.stage][last.layer])
                yield Site(firsts[last.stage] + last.layer, candidate, block)

    def uniform(self, share: float, kernel_size: int, depth: int = DEPTH) -> Layers:
        """Return the network whose stages all have ``depth`` layers, of the width that is this
        share of the way from the narrowest to the widest."""

        def row(stage: GrownStage) -> tuple[Layer, ...]:
            width = stage.widths[round(share * (len(stage.widths) - 1))]
            kernel = min(stage.kernels, key=lambda one: abs(one - kernel_size))
            return (Layer(width, kernel),) * min(depth, stage.depth)

        return tuple(map(row, self.stages))

    def baselines(self) -> Iterable[Baseline]:
        """Yield uniform networks of kernel 3, of all widths up to four times the usual MACs."""
        steps = min(12, max(len(stage.widths) for stage in self.stages)) - 1
        for number in range(steps + 1):
            layers = self.uniform(number / max(1, steps), 3)
            one = self.architecture(self.genotype(layers))
            if one.macs <= self.most_macs:
                width = layers[0][0].width
                yield Baseline(f"uniform 3x3 x{width}", "uniform", one)

    def random(self, rng: Random) -> Genotype:
        """Draw a network of at most four times the usual MACs: its size first, then its layers.

        Most of the space is far larger than what anybody searches it for.
        """
        while True:
            genotype = self._drawn(rng)
            if self.architecture(genotype).macs <= self.most_macs:
                return genotype

    def spread(self, count: int, rng: Random) -> list[Genotype]:
        """Return networks spread evenly over the logarithm of the MACs, from the smallest to four
        times the usual network; each is one of its size that was drawn."""
        low, high = self.architecture(self.smallest).macs, self.most_macs
        drawn = [self.random(rng) for _ in range(40 * count)]
        macs = [self.architecture(one).macs for one in drawn]
        found: dict[Genotype, None] = {}
        for number in range(count):
            wanted = low * (high / low) ** (number / max(1, count - 1))
            order = sorted(
                range(len(drawn)), key=lambda n: abs(macs[n] / wanted - wanted / macs[n])
            )
            found[next(drawn[n] for n in order if drawn[n] not in found)] = None
        return list(found)

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all with one layer changed, or one more or less at the end of a stage."""
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

    def _drawn(self, rng: Random) -> Genotype:
        """Draw a network from one of many sizes: depth and widths up to a share of the most."""
        share = rng.random()

        def row(stage: GrownStage) -> tuple[Layer, ...]:
            widths = stage.widths[: max(1, round(share * len(stage.widths)))]
            depth = rng.randint(1, max(1, round(share * stage.depth)))
            return tuple(Layer(rng.choice(widths), rng.choice(stage.kernels)) for _ in range(depth))

        return self.genotype(tuple(map(row, self.stages)))

    def _sampled(self) -> Iterable[Layers]:
        kernels = sorted({kernel for stage in self.stages for kernel in stage.kernels})
        for number in range(SAMPLED):
            for kernel_size in kernels:
                yield self.uniform(number / (SAMPLED - 1), kernel_size)
