"""Latency by look-up table: one row for each block, corrected by whole networks.

A network's latency is the sum of its blocks' latencies plus a constant, as in ProxylessNAS (Cai
et al., ICLR 2019, arXiv:1812.00332). The rows of a published table are taken as they are; those
of a measured one come from `hwnas.latency_models.fit`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import msgspec

from hwnas.architecture import Block
from hwnas.errors import InvalidFile, UnknownName
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.spaces.space import SearchSpace

SCHEMA = 1


class HeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well networks were predicted that the fit did not see (cross-validation)."""

    networks: int
    within_5: float
    """Share of networks predicted within 5 % of their measurement."""
    within_10: float
    rmspe: float
    """Root mean square of the relative errors."""
    spearman: float
    folds: int


class NetworkMeasured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One observation of a whole network."""

    keys: tuple[str, ...]
    """Block keys, one for each block that computes something."""
    ms: float
    standard_error: float
    """Relative."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the table was made on; it holds there only."""

    fingerprint: str
    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    reference_ms: float
    """Calibration: the reference model's median while the table was made."""
    reference_spread: float
    """Interquartile range of the reference over its median, over all rounds."""
    reference_sha256: str
    """Of the reference model's file: ratios to another one mean something else."""


class LatencyTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Block latencies of one device for one space."""

    schema: int
    device: str
    kind: Literal["measured", "table", "simulated"]
    source: str
    made: str
    """Date, ISO 8601."""
    rows_ms: dict[str, float]
    """Latency of each block inside a network, by `Block.key`."""
    overhead_ms: float = 0.0
    """Latency of a network of no blocks."""
    isolated_ms: dict[str, float] = {}
    """Blocks measured alone, before the correction by whole networks."""
    scale: float = 1.0
    """What a block costs inside a network, in units of what it costs alone."""
    call_ms: float = 0.0
    """What measuring a block alone adds to it: the runtime's cost of a call."""
    observed: tuple[NetworkMeasured, ...] = ()
    """Whole networks that the fit saw."""
    held_out: HeldOut | None = None
    conditions: Conditions | None = None

    @classmethod
    def from_json(cls, text: bytes, file: str) -> LatencyTable:
        """Read a table; an unknown or wrong field is an `InvalidFile` that names it."""
        try:
            table = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidFile(file, str(error)) from None
        if table.schema != SCHEMA:
            raise InvalidFile(file, f"is of schema {table.schema}, this version reads {SCHEMA}")
        wrong = next((key for key, ms in table.rows_ms.items() if not 0 <= ms < 1e7), None)
        if wrong is not None:
            raise InvalidFile(
                file, f"row {wrong!r} is {table.rows_ms[wrong]}, expected milliseconds >= 0"
            )
        if not 0 <= table.overhead_ms < 1e7:
            raise InvalidFile(
                file, f"overhead_ms is {table.overhead_ms}, expected milliseconds >= 0"
            )
        return table

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the table's numbers."""
        said = msgspec.json.encode((sorted(self.rows_ms.items()), self.overhead_ms))
        return hashlib.sha256(said).hexdigest()[:16]

    def block_ms(self, block: Block) -> float:
        """Return the latency of one block inside a network.

        A classifier with fewer classes than the table's is charged as the table's smallest one
        that has at least as many: an upper bound. Any other block without a row is an error.
        """
        if block.op == "identity":
            return 0.0
        if (found := self.rows_ms.get(block.key)) is not None:
            return found
        if block.op == "logits" and (bound := self._larger_logits_ms(block)) is not None:
            return bound
        raise UnknownName(f"latency row for {self.device}", block.key, self.rows_ms)

    def network_ms(self, blocks: Iterable[Block]) -> float:
        return self.overhead_ms + sum(map(self.block_ms, blocks))

    def std_ms(self, network_ms: float) -> float | None:
        """Standard deviation of a prediction, from the held-out error; ``None`` if unknown."""
        return None if self.held_out is None else self.held_out.rmspe * network_ms

    def cost_table(self, space: SearchSpace) -> CostTable:
        return cost_table(space, self.block_ms, self.overhead_ms)

    def _larger_logits_ms(self, block: Block) -> float | None:
        prefix = msgspec.structs.replace(block, out_channels=0).key.split(">")[0] + ">"
        suffix = f" @{block.in_size}"
        rows = [
            (int(key.removeprefix(prefix).removesuffix(suffix)), ms)
            for key, ms in self.rows_ms.items()
            if key.startswith(prefix) and key.endswith(suffix)
        ]
        larger = [row for row in rows if row[0] >= block.out_channels]
        return min(larger)[1] if larger else None
