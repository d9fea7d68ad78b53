"""The interface of a search space and its parts: decisions, sites, baselines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Literal, NamedTuple, Protocol

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError


class Decision(msgspec.Struct, frozen=True):
    """A place where a candidate is chosen: its name and the names of its candidates."""

    name: str
    candidates: tuple[str, ...]


class Site(NamedTuple):
    """A block that a candidate of a decision adds to the network, and how many times."""

    decision: int
    candidate: int
    block: Block
    multiplicity: int = 1


class Baseline(NamedTuple):
    """A network that is made without a search, for comparison."""

    name: str
    """Name of its family and, as the last word, its width."""
    origin: Literal["uniform", "published", "resolution"]
    architecture: Architecture


class SearchSpace(Protocol):
    """A set of architectures, each made of one candidate for each decision.

    In most spaces the decisions are independent: a candidate adds the same blocks whatever else is
    chosen, and every combination is an architecture. `hwnas.spaces.dependent` has the
    exceptions: the cost of a layer depends on other choices.
    """

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
    def default(self) -> Genotype:
        """The network to use without a search; its latency is the default budget."""
        ...

    @property
    def fixed(self) -> tuple[Block, ...]:
        """Blocks that all architectures of the space have."""
        ...

    def sites(self) -> Iterable[Site]:
        """Yield the blocks of every candidate, decision by decision; ``identity`` is a skip.

        In a chain a candidate is a single block; in cells it is several, at several sizes.
        """
        ...

    def architecture(self, genotype: Genotype) -> Architecture: ...

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        """Return the decision that each block comes from, None for a fixed block."""
        ...

    def baselines(self) -> Iterable[Baseline]:
        """Yield hand-designed networks on the space's stages, of several widths."""
        ...

    def random(self, rng: Random) -> Genotype:
        """Draw uniformly from the candidates of each decision."""
        ...

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        """Yield all genotypes that differ in one decision."""
        ...


def check_genotype(genotype: Genotype, space: str, decisions: Sequence[Decision]) -> None:
    """Raise `UsageError` unless a genotype has a candidate for each decision of the space."""
    if genotype.space != space or len(genotype.choices) != len(decisions):
        raise UsageError(
            f"a genotype of space {genotype.space!r} with {len(genotype.choices)} choices does not "
            f"fit space {space!r} with {len(decisions)} decisions"
        )
    for decision, choice in zip(decisions, genotype.choices, strict=True):
        count = len(decision.candidates)
        if not 0 <= choice < count:
            raise UsageError(f"{decision.name}: candidate {choice} of {count} does not exist")
