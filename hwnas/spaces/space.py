"""What every search space offers, and the parts it is described with."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import NamedTuple, Protocol

import msgspec

from hwnas.architecture import Architecture, Block, Genotype


class Decision(msgspec.Struct, frozen=True):
    """One place of choice: its name and the names of its candidates."""

    name: str
    candidates: tuple[str, ...]


class Site(NamedTuple):
    """A block that one candidate of one decision puts into the network, and how often."""

    decision: int
    candidate: int
    block: Block
    multiplicity: int = 1


class SearchSpace(Protocol):
    """A set of architectures, described by independent decisions."""

    @property
    def name(self) -> str: ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        ...

    @property
    def num_classes(self) -> int: ...

    @property
    def decisions(self) -> tuple[Decision, ...]: ...

    @property
    def fixed(self) -> tuple[Block, ...]:
        """Blocks that every architecture of the space has."""
        ...

    def sites(self) -> Iterable[Site]:
        """Yield the blocks of every candidate, decision by decision; ``identity`` is a skip.

        In a chain a candidate is one block; in cells it is several, at several sizes.
        """
        ...

    def architecture(self, genotype: Genotype) -> Architecture: ...

    def random(self, rng: Random) -> Genotype:
        """Draw uniformly from the candidates of each decision."""
        ...

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all genotypes that differ in one decision."""
        ...
