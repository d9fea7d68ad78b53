"""The architecture in the report: its blocks and cells, and how each was decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import msgspec

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.size import Size


class CandidateShare(msgspec.Struct, frozen=True):
    """One candidate of a decision at the end of the search."""

    name: str
    probability: float
    cost_ms: float | None = None
    """Latency that the model predicts."""


class BlockRow(msgspec.Struct, frozen=True, kw_only=True):
    """One block of the network, and how it was decided."""

    key: str
    """`Block.label`."""
    op: str
    kernel_size: int
    stride: int
    expand_ratio: float
    in_channels: int
    out_channels: int
    in_size: Size
    """Height and width in pixels, one number where they are equal."""
    out_size: Size
    macs: int
    params: int
    residual: bool = False
    predicted_ms: float | None = None
    predicted_std_ms: float | None = None
    probability: float | None = None
    """Probability of the chosen candidate at the end of the search."""
    decision: str | None = None
    """Name of the decision, e.g. ``stage 2 block 1``; ``None``: the space leaves no choice."""
    chosen: str | None = None
    """Name of the chosen candidate, one of ``candidates``."""
    candidates: tuple[CandidateShare, ...] = ()
    """Candidates of the decision; if it decides several blocks, only the first of them lists
    these."""
    cell: int | None = None
    """Number of the cell in the stack, from 0."""

    @property
    def decided(self) -> str:
        """The decision, with the choice if no probabilities show it."""
        if self.decision is None:
            return "fixed"
        if self.chosen is None or self.probability is not None:
            return self.decision
        return f"{self.decision}: {self.chosen}"

    @classmethod
    def from_block(
        cls,
        block: Block,
        *,
        predicted_ms: float | None = None,
        predicted_std_ms: float | None = None,
        decision: str | None = None,
        chosen: str | None = None,
        candidates: Sequence[CandidateShare] = (),
        cell: int | None = None,
    ) -> Self:
        """Return a block's row; its probability is that of the candidate named ``chosen``."""
        shares = {candidate.name: candidate.probability for candidate in candidates}
        return cls(
            key=block.label,
            op=block.op,
            kernel_size=block.kernel_size,
            stride=block.stride,
            expand_ratio=block.expand_ratio,
            in_channels=block.in_channels,
            out_channels=block.out_channels,
            in_size=block.in_size,
            out_size=block.out_size,
            macs=block.macs,
            params=block.params,
            residual=block.residual,
            predicted_ms=predicted_ms,
            predicted_std_ms=predicted_std_ms,
            probability=shares.get(chosen) if chosen is not None else None,
            decision=decision,
            chosen=chosen,
            candidates=tuple(candidates),
            cell=cell,
        )


class EdgeRow(msgspec.Struct, frozen=True):
    """An operation of a cell, applied to the output of one node."""

    op: str
    source: int
    """Number of that node."""
    probability: float | None = None
    """Probability at the end of the search."""
    predicted_ms: float | None = None
    """Latency in all cells of this kind together."""


class CellRow(msgspec.Struct, frozen=True):
    """A kind of cell in the stack; nodes are numbered as in `hwnas.spaces.cells.genotype`."""

    kind: Literal["normal", "reduction"]
    copies: int
    nodes: tuple[tuple[EdgeRow, ...], ...]
    """The operations that each node sums; the first is node 2."""
    concat: tuple[int, ...]
    """Nodes whose channels are the cell's output."""


class ArchitectureSummary(msgspec.Struct, frozen=True, kw_only=True):
    """The delivered architecture, block by block."""

    digest: str
    params: int
    macs: int
    space: str
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    num_classes: int
    blocks: tuple[BlockRow, ...] = ()
    cells: tuple[CellRow, ...] = ()
    """The kinds of cells of a network that stacks cells."""

    @classmethod
    def from_architecture(
        cls,
        architecture: Architecture,
        rows: Sequence[BlockRow] | None = None,
        cells: Sequence[CellRow] = (),
    ) -> Self:
        """Return the summary of an architecture; ``rows`` if more than the shapes is known."""
        blocks = map(BlockRow.from_block, architecture.blocks) if rows is None else rows
        return cls(
            digest=architecture.digest,
            params=architecture.params,
            macs=architecture.macs,
            space=architecture.genotype.space,
            input_shape=architecture.input_shape,
            num_classes=architecture.num_classes,
            blocks=tuple(blocks),
            cells=tuple(cells),
        )

    @property
    def blocks_ms(self) -> float | None:
        """Sum of the blocks' predicted latencies, if every block has one."""
        costs_ms = [block.predicted_ms for block in self.blocks]
        known_ms = [cost_ms for cost_ms in costs_ms if cost_ms is not None]
        return sum(known_ms) if len(known_ms) == len(costs_ms) else None
