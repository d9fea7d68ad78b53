"""The latency model of a device: costs of blocks, networks and spaces, with their uncertainty.

A Gaussian process over sums of blocks: `prior` predicts costs from features and timings of single
blocks, `correction` adjusts them to whole networks. A model holds the observations and the few
hyper-parameters of the fit; the posterior is computed on demand, without fitting anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from statistics import NormalDist
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture, Block
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
from hwnas.spaces.dependent import as_dependent
from hwnas.spaces.space import SearchSpace

ModelKind = Literal["measured", "table", "adapted", "simulated", "emulated"]
"""Origin of a model's numbers."""

MIN_RELATIVE_STD = 0.015
"""Lower bound of a prediction's relative standard deviation: the spread of repeated measurements on
a quiet machine."""


class HeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Accuracy of predictions for networks that the fit did not see."""

    networks: int
    within_5: float
    """Share of networks predicted within 5 % of their measurement."""
    within_10: float
    rmspe: float
    """Root mean square of the relative errors."""
    spearman: float
    folds: int
    """Folds of the cross-validation; 0 where the networks were never fitted."""
    covered_90: float = 0.0
    """Share of measurements inside the 90 % interval."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The conditions of the measurements; the model is valid for these only."""

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
    """Hash of the reference model's file; ratios to another model are not comparable."""


class Predictions(NamedTuple):
    """Predicted latencies of networks ``[N]``, and the standard deviations of measurements."""

    mean_ms: Floats
    std_ms: Floats

    def interval_ms(self, share: float = 0.9) -> tuple[Floats, Floats]:
        """Return the bounds between which ``share`` of the measurements lie."""
        half = NormalDist().inv_cdf(0.5 + share / 2) * self.std_ms
        return np.maximum(self.mean_ms - half, 0.0), self.mean_ms + half

    def bound_ms(self, share: float = 0.9) -> Floats:
        """Return the bounds below which ``share`` of the measurements lie, to check a budget."""
        return self.mean_ms + NormalDist().inv_cdf(share) * self.std_ms


class LatencyModel(msgspec.Struct, frozen=True, dict=True):
    """A fitted model; `hwnas.latency_models.fitting.fit` makes it."""

    device: str
    kind: ModelKind
    source: str
    """Origin of the observations."""
    made: str
    """Date, ISO 8601."""
    rows_ms: dict[Block, float]
    """Cost of each observed block inside a network: the posterior mean."""
    overhead_ms: float
    """Added once to every network; fitted together with the rows, without a physical meaning."""
    observations: tuple[Observation, ...]
    prior: BlockPrior
    correction: Correction | None = None
    """``None``: no whole network was measured."""
    sources: tuple[LatencyModel, ...] = ()
    """Models of other devices that this one is adapted from."""
    held_out: HeldOut | None = None
    conditions: Conditions | None = None

    @classmethod
    def load(cls, name: str | Path) -> LatencyModel:
        """Load a model by name (``DEVICE/MODEL`` or ``DEVICE``) or from its JSON file.

        Raises `UnknownName` with the nearest name, `InvalidFile` for a file that is no model.

            >>> import hwnas
            >>> model = hwnas.LatencyModel.load("pixel1/table-2018")
            >>> prediction = model.predict(hwnas.load_architecture("proxyless_mobile"))
            >>> low_ms, high_ms = prediction.interval_ms(0.9)
            >>> bool(low_ms[0] < prediction.mean_ms[0] < high_ms[0])
            True

        """
        # storage is above this module, so it is imported by its name when a model is loaded
        registry: Any = import_module("hwnas.latency_models.storage.registry")
        return registry.find_model(str(name))[1]

    @property
    def digest(self) -> str:
        """Sixteen hex digits that identify the model's numbers, whenever it was fitted."""
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

        A block that was never measured is predicted. Raises `UnknownName` if the model is a
        published table, or if no measured block has its kind of operation or its kernel size.
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

    def predict(self, networks: Architecture | Sequence[Iterable[Block]]) -> Predictions:
        """Return mean and standard deviation of networks' measured latencies.

        ``networks`` are the blocks of ``N`` networks, or one architecture. Unlike `block_ms`, it
        also predicts blocks that are `unsupported`.
        """
        if isinstance(networks, Architecture):
            networks = [networks.blocks]
        rows = [[block for block in network if not block.is_free] for network in networks]
        distinct = list(dict.fromkeys(block for row in rows for block in row))
        costs = self.posterior_over(distinct)
        place = {block: number for number, block in enumerate(distinct)}
        counts = np.zeros((len(rows), len(distinct) + 1))
        counts[:, -1] = 1.0
        for number, row in enumerate(rows):
            for block in row:
                counts[number, place[block]] += 1
        mean = counts @ np.append(costs.ms, costs.overhead_ms)
        variance = np.einsum("nb,bc,nc->n", counts, costs.covariance, counts, optimize=True)
        noise = (costs.noise**2 + self._repeat_error**2) * mean**2
        return Predictions(mean, np.maximum(np.sqrt(variance + noise), MIN_RELATIVE_STD * mean))

    def std_ms(self, blocks: Iterable[Block]) -> float:
        """Return the standard deviation of a network's measured latency around its prediction."""
        return float(self.predict([blocks]).std_ms[0])

    def unsupported(self, blocks: Iterable[Block]) -> list[str]:
        """Return the kinds of operation and kernel in ``blocks`` that no measured block has."""
        return unsupported(blocks, self.support)

    def costs(self, space: SearchSpace) -> Costs:
        """Return the costs of networks of ``space``; a table if its decisions are independent."""
        if as_dependent(space) is None:
            return self.cost_table(space)
        self.blocks_ms(
            [*space.fixed, *(site.block for site in space.sites())]
        )  # raises for a block that cannot be predicted
        return NetworkCosts(space, self.blocks_ms, self.overhead_ms)

    def cost_table(self, space: SearchSpace) -> CostTable:
        """Return the costs of all candidates of ``space``: for every network their sum is
        `network_ms`."""
        blocks = [*space.fixed, *(site.block for site in space.sites())]
        costs = self.blocks_ms(blocks)
        return cost_table(space, lambda block: costs.get(block, 0.0), self.overhead_ms)

    @cached_property
    def support(self) -> tuple[Block, ...]:
        """The blocks that were measured, on this device or on a source device."""
        return tuple(
            dict.fromkeys(
                [*self.rows_ms, *(block for source in self.sources for block in source.support)]
            )
        )

    def posterior_over(self, blocks: Sequence[Block]) -> Posterior:
        """Return the costs of ``blocks``, in their order, and their covariance."""
        field = block_grid(self.observations, self.prior, self.sources, blocks)
        if self.correction is None:
            costs = uncorrected(field, common_bias_std(self.observations))
        else:
            costs = posterior(self.correction, network_data(self.observations, field.blocks), field)
        place = {block: number for number, block in enumerate(field.blocks)}
        indices = [place[block] for block in blocks]
        joint = [*indices, len(field.blocks)]
        covariance = costs.covariance[np.ix_(joint, joint)]
        return costs._replace(ms=costs.ms[indices], covariance=covariance)

    @cached_property
    def _repeat_error(self) -> float:
        """The typical standard error of a network's measurement."""
        errors = [network.standard_error for network in self.networks]
        return float(np.median(errors)) if errors else 0.0

    def _bound_ms(self, block: Block) -> float:
        """Return an upper bound: the cost of the smallest classifier with enough classes."""
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
        labels = {row.label for row in self.rows_ms} - {block.label}
        return UnknownName(f"latency row for {self.device}{why}", block.label, labels)

    def predicted_ms(self, blocks: Sequence[Block]) -> Floats:
        """Return the cost of each block, also of unsupported ones."""
        costs = dict(self.rows_ms)
        if fresh := [block for block in blocks if block not in costs]:
            costs.update(zip(fresh, self.posterior_over(fresh).ms.tolist(), strict=True))
        return np.array([costs[block] for block in blocks])
