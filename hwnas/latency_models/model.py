"""The latency model of one device: what a block, a network or a whole space costs, and how sure.

A sum-structured Gaussian process: `prior` says what blocks cost by features and timings of single
blocks, `correction` what whole networks add to it. The file holds the observations and the few
numbers that a fit finds; the posterior is worked out when it is asked for, without any fitting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from statistics import NormalDist
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.errors import UnknownName
from hwnas.latency_models.cost import Costs, CostTable, NetworkCosts, cost_table
from hwnas.latency_models.features import Floats, unsupported
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.design_matrix import (
    block_grid,
    common_bias_std,
    network_data,
    null_latency_ms,
)
from hwnas.latency_models.fitting.network_correction import (
    Correction,
    Posterior,
    posterior,
    uncorrected,
)
from hwnas.latency_models.observation import Observation
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace

ModelKind = Literal["measured", "table", "adapted", "simulated", "emulated"]
"""Where a model's numbers come from."""

FLOOR = 0.015
"""No prediction claims a relative standard deviation below this: what measuring again differs by
on a quiet machine."""


class HeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well networks were predicted that the fit did not see."""

    networks: int
    within_5: float
    """Share of networks predicted within 5 % of their measurement."""
    within_10: float
    rmspe: float
    """Root mean square of the relative errors."""
    spearman: float
    folds: int
    """Of the cross-validation; 0 where the networks were never fitted."""
    covered_90: float = 0.0
    """Share of measurements inside the 90 % interval."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was made on; it holds there only."""

    fingerprint: str
    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    reference_ms: float
    """Calibration: the reference model's median while the measurements were taken."""
    reference_spread: float
    """Interquartile range of the reference over its median, over all rounds."""
    reference_sha256: str
    """Of the reference model's file: ratios to another one mean something else."""


class Predictions(NamedTuple):
    """Latencies of networks ``[N]``, with the standard deviation of measuring them."""

    mean_ms: Floats
    std_ms: Floats

    def interval_ms(self, share: float = 0.9) -> tuple[Floats, Floats]:
        """Return the bounds between which ``share`` of the measurements lie."""
        half = NormalDist().inv_cdf(0.5 + share / 2) * self.std_ms
        return np.maximum(self.mean_ms - half, 0.0), self.mean_ms + half

    def bound_ms(self, share: float = 0.9) -> Floats:
        """Return what ``share`` of the measurements stay below: for a check of a budget."""
        return self.mean_ms + NormalDist().inv_cdf(share) * self.std_ms


class LatencyModel(msgspec.Struct, frozen=True, dict=True):
    """A fitted model; `hwnas.latency_models.fitting.fit` makes it."""

    device: str
    kind: ModelKind
    source: str
    """Where the observations come from."""
    made: str
    """Date, ISO 8601."""
    rows_ms: dict[Block, float]
    """Cost of each observed block inside a network: the posterior mean."""
    overhead_ms: float
    """Added once to every network. Learnt along with the rows: no meaning of its own."""
    observations: tuple[Observation, ...]
    prior: BlockPrior
    correction: Correction | None = None
    """``None``: no whole network was measured."""
    sources: tuple[LatencyModel, ...] = ()
    """Models of other devices that this one is adapted from."""
    held_out: HeldOut | None = None
    conditions: Conditions | None = None

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the model's numbers, whenever it was made."""
        rows = sorted((block.key, ms) for block, ms in self.rows_ms.items())
        return hashlib.sha256(msgspec.json.encode((rows, self.overhead_ms))).hexdigest()[:16]

    @property
    def networks(self) -> tuple[Observation, ...]:
        """The whole networks that were measured."""
        return tuple(seen for seen in self.observations if seen.scope == "network")

    @property
    def null_ms(self) -> float | None:
        """Latency of the model that computes nothing; ``None`` if it was not measured."""
        return null_latency_ms(self.observations)

    def isolated_ms(self) -> dict[Block, float]:
        """Return the measured latencies of isolated blocks, with the runtime's call."""
        isolated = (seen for seen in self.observations if seen.scope == "isolated" and seen.blocks)
        return {seen.blocks[0]: seen.ms for seen in isolated}

    def block_ms(self, block: Block) -> float:
        """Return the cost of one block inside a network; a skip costs nothing.

        A block that was never measured is predicted, except from a published table, and except
        where no measured block has its kind of operation or its kernel: both are an `UnknownName`.
        """
        return 0.0 if block.is_free else self.blocks_ms([block])[block]

    def blocks_ms(self, blocks: Iterable[Block]) -> dict[Block, float]:
        """Return the costs of many blocks at once; those that compute nothing are left out."""
        blocks = [block for block in blocks if not block.is_free]
        costs = {block: self.rows_ms[block] for block in blocks if block in self.rows_ms}
        fresh = list(dict.fromkeys(block for block in blocks if block not in costs))
        if not fresh:
            return costs
        if self.kind == "table":
            return {**costs, **{block: self._bound_ms(block) for block in fresh}}
        if missing := unsupported(fresh, self.support):
            block = next(block for block in fresh if unsupported([block], self.support))
            raise self._no_row(block, f" ({missing[0]} was never measured there)")
        predicted = self.posterior_over(fresh).ms.tolist()
        return {**costs, **dict(zip(fresh, predicted, strict=True))}

    def network_ms(self, blocks: Iterable[Block]) -> float:
        """Return the latency of a network of these blocks."""
        chosen = [block for block in blocks if not block.is_free]
        known = all(block in self.rows_ms for block in chosen)
        costs = self.rows_ms if known else self.blocks_ms(chosen)
        return self.overhead_ms + sum(costs[block] for block in chosen)

    def predict(self, networks: Sequence[Iterable[Block]]) -> Predictions:
        """Return mean and standard deviation of networks' measured latencies.

        Unlike `block_ms` it predicts what nothing measured supports, too: see `unsupported`.
        """
        rows = [[block for block in one if not block.is_free] for one in networks]
        asked = list(dict.fromkeys(block for row in rows for block in row))
        found = self.posterior_over(asked)
        place = {block: number for number, block in enumerate(asked)}
        counts = np.zeros((len(rows), len(asked) + 1))
        counts[:, -1] = 1.0
        for number, row in enumerate(rows):
            for block in row:
                counts[number, place[block]] += 1
        mean = counts @ np.append(found.ms, found.overhead_ms)
        variance = np.einsum("nb,bc,nc->n", counts, found.covariance, counts, optimize=True)
        noise = (found.noise**2 + self._repeat_error**2) * mean**2
        return Predictions(mean, np.maximum(np.sqrt(variance + noise), FLOOR * mean))

    def std_ms(self, blocks: Iterable[Block]) -> float:
        """Return the standard deviation of a network's measured latency around its prediction."""
        return float(self.predict([blocks]).std_ms[0])

    def unsupported(self, blocks: Iterable[Block]) -> list[str]:
        """Return the kinds of operation and kernel in ``blocks`` that nothing measured has."""
        return unsupported(blocks, self.support)

    def costs(self, space: SearchSpace) -> Costs:
        """Return what networks of ``space`` cost: a table where its decisions are independent."""
        if not isinstance(in_float(space), GrownSpace):
            return self.cost_table(space)
        self.blocks_ms([*space.fixed, *(site.block for site in space.sites())])  # what it lacks
        return NetworkCosts(space, self.blocks_ms, self.overhead_ms)

    def cost_table(self, space: SearchSpace) -> CostTable:
        """Return the costs of all candidates of ``space``: exact for every network of it."""
        blocks = [*space.fixed, *(site.block for site in space.sites())]
        costs = self.blocks_ms(blocks)
        return cost_table(space, lambda block: costs.get(block, 0.0), self.overhead_ms)

    @cached_property
    def support(self) -> tuple[Block, ...]:
        """The blocks that anything was measured of, here or on a source device."""
        return tuple(
            dict.fromkeys([*self.rows_ms, *(b for one in self.sources for b in one.support)])
        )

    def posterior_over(self, blocks: Sequence[Block]) -> Posterior:
        """Return the costs of ``blocks``, in their order, and how sure they are."""
        field = block_grid(self.observations, self.prior, self.sources, blocks)
        if self.correction is None:
            found = uncorrected(field, common_bias_std(self.observations))
        else:
            found = posterior(self.correction, network_data(self.observations, field.blocks), field)
        place = {block: number for number, block in enumerate(field.blocks)}
        taken = [place[block] for block in blocks]
        joint = [*taken, len(field.blocks)]
        covariance = found.covariance[np.ix_(joint, joint)]
        return found._replace(ms=found.ms[taken], covariance=covariance)

    @cached_property
    def _repeat_error(self) -> float:
        """The typical standard error of a network's measurement."""
        errors = [one.standard_error for one in self.networks]
        return float(np.median(errors)) if errors else 0.0

    def _bound_ms(self, block: Block) -> float:
        """Charge a classifier as the smallest one with at least as many classes."""
        larger = [
            row
            for row in self.rows_ms
            if block.op == row.op == "logits"
            and (block.in_channels, block.in_size) == (row.in_channels, row.in_size)
            and row.out_channels >= block.out_channels
        ]
        if not larger:
            raise self._no_row(block)
        return self.rows_ms[min(larger, key=lambda row: row.out_channels)]

    def _no_row(self, block: Block, why: str = "") -> UnknownName:
        keys = (row.key for row in self.rows_ms)
        return UnknownName(f"latency row for {self.device}{why}", block.key, keys)

    def predicted_ms(self, blocks: Sequence[Block]) -> Floats:
        """Return the cost of each block, also of those that nothing measured supports."""
        costs = dict(self.rows_ms)
        if fresh := [block for block in blocks if block not in costs]:
            costs.update(zip(fresh, self.posterior_over(fresh).ms.tolist(), strict=True))
        return np.array([costs[block] for block in blocks])
