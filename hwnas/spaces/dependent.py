"""Spaces whose decisions depend on each other, so that the cost of a candidate depends on
others."""

from __future__ import annotations

from random import Random
from typing import Protocol, cast

from hwnas.architecture.architecture import Genotype
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace


class DependentSpace(SearchSpace, Protocol):
    """A space in which the block that a candidate adds depends on other decisions."""

    @property
    def smallest(self) -> Genotype:
        """The network of the fewest MACs."""
        ...

    @property
    def largest(self) -> Genotype:
        """The network of the most MACs."""
        ...

    def sample_sizes(self, count: int, rng: Random) -> list[Genotype]:
        """Return random networks that are spaced evenly in the logarithm of their MACs."""
        ...


def as_dependent(space: SearchSpace) -> DependentSpace | None:
    """Return the space in float32 if its decisions depend on each other, else ``None``."""
    inner = in_float(space)
    return cast(DependentSpace, inner) if hasattr(inner, "sample_sizes") else None
