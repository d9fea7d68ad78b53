"""A space in int8: the same decisions, with blocks that have their own latency."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.spaces.space import Baseline, Decision, SearchSpace, Site


class Int8Space:
    """A space whose blocks are all in int8. Any space can be wrapped, also that of a plug-in."""

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
    def default(self) -> Genotype:
        return self.inner.default

    @property
    def fixed(self) -> tuple[Block, ...]:
        return tuple(map(_int8, self.inner.fixed))

    def sites(self) -> Iterable[Site]:
        return (site._replace(block=_int8(site.block)) for site in self.inner.sites())

    def architecture(self, genotype: Genotype) -> Architecture:
        return _all_int8(self.inner.architecture(genotype))

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        return self.inner.block_decisions(architecture)

    def baselines(self) -> Iterable[Baseline]:
        for baseline in self.inner.baselines():
            yield baseline._replace(architecture=_all_int8(baseline.architecture))

    def random(self, rng: Random) -> Genotype:
        return self.inner.random(rng)

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        return self.inner.neighbours(genotype)


def in_precision(space: SearchSpace, precision: str) -> SearchSpace:
    """Return the space in a precision, ``fp32`` or ``int8``."""
    return Int8Space(space) if precision == "int8" else space


def precision_of(space: SearchSpace) -> str:
    """Return the precision of a space's networks, ``fp32`` or ``int8``."""
    return "int8" if isinstance(space, Int8Space) else "fp32"


def in_float(space: SearchSpace) -> SearchSpace:
    """Return the space in float32, in which networks are trained before they are compiled."""
    return space.inner if isinstance(space, Int8Space) else space


def network_in_precision(architecture: Architecture, precision: str) -> Architecture:
    """Return a network in a precision, ``fp32`` or ``int8``."""
    return _all_int8(architecture) if precision == "int8" else architecture


def _int8(block: Block) -> Block:
    return msgspec.structs.replace(block, precision="int8")


def _all_int8(architecture: Architecture) -> Architecture:
    return msgspec.structs.replace(architecture, blocks=tuple(map(_int8, architecture.blocks)))
