"""The predicted latency of a network by block, with prediction intervals."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats, unsupported
from hwnas.latency_models.model import LatencyModel, Predictions
from hwnas.latency_models.observation import Scope

CostSource = Literal["isolated", "in network", "networks", "predicted", "bound", "free"]
"""Where the cost of a block comes from: a measurement of the isolated block, its time inside
networks (profiled or published), measured networks that contain it, a prediction from other blocks,
or the row of a larger classifier as an upper bound; a block that computes nothing is free."""

INTERVAL_LEVEL = 0.9
"""Probability mass of all intervals here."""


class BlockCost(msgspec.Struct, frozen=True):
    """The cost of one block of the network."""

    block: str
    ms: float
    interval_ms: tuple[float, float]
    share: float
    """Share of the network's latency."""
    source: CostSource
    never_measured: tuple[str, ...] = ()
    """Kinds of operation and kernel that no observed block has; the prediction is extrapolated."""
    only_isolated: tuple[str, ...] = ()
    """Kinds that were measured in isolated blocks, but in no network."""


class Breakdown(msgspec.Struct, frozen=True):
    """The predicted latency of a network, by block."""

    blocks: tuple[BlockCost, ...]
    overhead_ms: float
    mean_ms: float
    std_ms: float
    """Standard deviation of a measurement around the prediction."""

    @property
    def interval_ms(self) -> tuple[float, float]:
        return _interval(self.mean_ms, self.std_ms)

    @property
    def never_measured(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for row in self.blocks for kind in row.never_measured))

    @property
    def only_isolated(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for row in self.blocks for kind in row.only_isolated))

    def confidence(self, budget_ms: float) -> float:
        """Return the probability that a measurement stays within the budget."""
        return NormalDist(self.mean_ms, self.std_ms).cdf(budget_ms)


def breakdown(model: LatencyModel, blocks: Sequence[Block]) -> Breakdown:
    """Predict a network of ``blocks``.

    Raises `UnknownName` for a block without a row in a published table.
    """
    distinct = list(dict.fromkeys(block for block in blocks if not block.is_free))
    ms, covariance, overhead_ms = _costs(model, distinct)
    place = {block: number for number, block in enumerate(distinct)}
    total = model.predict([blocks])
    mean_ms = overhead_ms + sum(float(ms[place[block]]) for block in blocks if block in place)
    std_ms = float(total.std_ms[0]) * mean_ms / float(total.mean_ms[0])
    isolated, in_network = _blocks(model, "isolated"), _blocks(model, "in_network")
    networks = _blocks(model, "network")
    rows: list[BlockCost] = []
    for block in blocks:
        if block not in place:
            rows.append(BlockCost(block.key, 0.0, (0.0, 0.0), 0.0, "free"))
            continue
        cost = float(ms[place[block]])
        std = float(np.sqrt(covariance[place[block], place[block]]))
        source: CostSource = "bound" if model.kind == "table" else "predicted"
        if block in isolated:
            source = "isolated"
        elif block in in_network:
            source = "in network"
        elif block in model.rows_ms:
            source = "networks"
        never = () if source != "predicted" else tuple(model.unsupported([block]))
        only = tuple(unsupported([block], networks)) if source == "isolated" and networks else ()
        share = cost / mean_ms
        rows.append(BlockCost(block.key, cost, _interval(cost, std), share, source, never, only))
    return Breakdown(tuple(rows), overhead_ms, mean_ms, std_ms)


def _costs(model: LatencyModel, blocks: Sequence[Block]) -> tuple[Floats, Floats, float]:
    """Return costs ``[B]``, their covariance and the overhead; a table's costs are its rows."""
    rows = model.blocks_ms(blocks) if model.kind == "table" else {}
    costs = model.posterior_over(blocks)
    ms = np.array([rows[block] for block in blocks]) if rows else costs.ms
    return ms, costs.covariance, model.overhead_ms if rows else costs.overhead_ms


def _interval(mean_ms: float, std_ms: float) -> tuple[float, float]:
    low, high = Predictions(np.array([mean_ms]), np.array([std_ms])).interval_ms(INTERVAL_LEVEL)
    return float(low[0]), float(high[0])


def _blocks(model: LatencyModel, scope: Scope) -> set[Block]:
    return {block for seen in model.observations if seen.scope == scope for block in seen.blocks}
