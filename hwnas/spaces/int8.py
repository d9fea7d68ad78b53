"""Any space in int8: the same choices, of blocks whose latency is another."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.spaces.space import Baseline, Decision, SearchSpace, Site


class Int8Space:
    """A space whose blocks are all in int8."""

    def __init__(self, inner: SearchSpace) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.inner.input_shape

    @property
    def num_classes(self) -> int:
        return self.inner.num_classes

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self.inner.decisions

    @property
    def size(self) -> int:
        return self.inner.size

    @property
    def usual(self) -> Genotype:
        return self.inner.usual

    @property
    def fixed(self) -> tuple[Block, ...]:
        return tuple(map(_int8, self.inner.fixed))

    def sites(self) -> Iterable[Site]:
        return (site._replace(block=_int8(site.block)) for site in self.inner.sites())

    def architecture(self, genotype: Genotype) -> Architecture:
        return _all_int8(self.inner.architecture(genotype))

    def decided(self, architecture: Architecture) -> tuple[int | None, ...]:
        return self.inner.decided(architecture)

    def baselines(self) -> Iterable[Baseline]:
        for one in self.inner.baselines():
            yield one._replace(architecture=_all_int8(one.architecture))

    def random(self, rng: Random) -> Genotype:
        return self.inner.random(rng)

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        return self.inner.neighbours(genotype)


def in_precision(space: SearchSpace, precision: str) -> SearchSpace:
    """Return the space for networks of that precision."""
    return Int8Space(space) if precision == "int8" else space


def in_float(space: SearchSpace) -> SearchSpace:
    """Return the space that a search trains: weights are float32 until the network is compiled."""
    return space.inner if isinstance(space, Int8Space) else space


def _int8(block: Block) -> Block:
    return msgspec.structs.replace(block, precision="int8")


def _all_int8(architecture: Architecture) -> Architecture:
    return msgspec.structs.replace(architecture, blocks=tuple(map(_int8, architecture.blocks)))
