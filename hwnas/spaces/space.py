"""What every search space offers, and the parts it is described with."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Literal, NamedTuple, Protocol

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype


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


class Baseline(NamedTuple):
    """A network that needs no search, to be compared with."""

    name: str
    """Its family and, as the last word, its width."""
    origin: Literal["uniform", "published"]
    architecture: Architecture


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
    def size(self) -> int:
        """Number of networks."""
        ...

    @property
    def usual(self) -> Genotype:
        """The network that one would take without a search; its latency is the default budget."""
        ...

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

    def decided(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the decision that each block comes from, ``None`` for one of all networks."""
        ...

    def baselines(self) -> Iterable[Baseline]:
        """Yield hand-made networks on the space's stages, of several widths."""
        ...

    def random(self, rng: Random) -> Genotype:
        """Draw uniformly from the candidates of each decision."""
        ...

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all genotypes that differ in one decision."""
        ...
