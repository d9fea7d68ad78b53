"""A network's predicted latency, block by block, with the interval of each."""

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

Known = Literal["alone", "inside", "in networks", "predicted", "bound", "nothing"]
"""Where a block's cost comes from: timed alone, a figure from inside networks (a published table),
part of measured networks only, predicted from other blocks, the row of a larger classifier, or
nothing is computed (a skip)."""

INTERVAL = 0.9


class BlockCost(msgspec.Struct, frozen=True):
    """One block of the network."""

    block: str
    ms: float
    interval_ms: tuple[float, float]
    share: float
    """Of the network's latency."""
    known: Known
    never_measured: tuple[str, ...] = ()
    """Kinds of operation and kernel that no observed block has: a blind spot."""
    only_alone: tuple[str, ...] = ()
    """Kinds that blocks timed alone have, but no measured network."""


class Breakdown(msgspec.Struct, frozen=True):
    """What the network costs, and why."""

    blocks: tuple[BlockCost, ...]
    overhead_ms: float
    mean_ms: float
    std_ms: float
    """Of a measurement around the prediction."""

    @property
    def interval_ms(self) -> tuple[float, float]:
        return _interval(self.mean_ms, self.std_ms)

    @property
    def never_measured(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for one in self.blocks for kind in one.never_measured))

    @property
    def only_alone(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(kind for one in self.blocks for kind in one.only_alone))

    def confidence(self, budget_ms: float) -> float:
        """Return the probability that a measurement stays within the budget."""
        return NormalDist(self.mean_ms, self.std_ms).cdf(budget_ms)


def breakdown(model: LatencyModel, blocks: Sequence[Block]) -> Breakdown:
    """Predict a network of ``blocks``.

    Raises `UnknownName` for a block without a row in a published table, which is not guessed.
    """
    asked = list(dict.fromkeys(block for block in blocks if not block.is_free))
    ms, covariance, overhead_ms = _costs(model, asked)
    place = {block: number for number, block in enumerate(asked)}
    total = model.predict([blocks])
    mean_ms = overhead_ms + sum(float(ms[place[one]]) for one in blocks if one in place)
    std_ms = float(total.std_ms[0]) * mean_ms / float(total.mean_ms[0])
    alone, inside = _blocks(model, "isolated"), _blocks(model, "in_network")
    networks = _blocks(model, "network")
    rows: list[BlockCost] = []
    for block in blocks:
        if block not in place:
            rows.append(BlockCost(block.key, 0.0, (0.0, 0.0), 0.0, "nothing"))
            continue
        cost = float(ms[place[block]])
        std = float(np.sqrt(covariance[place[block], place[block]]))
        known: Known = (
            "alone" if block in alone
            else "inside" if block in inside
            else "in networks" if block in model.rows_ms
            else "bound" if model.kind == "table"
            else "predicted"
        )  # fmt: skip
        never = () if known != "predicted" else tuple(model.unsupported([block]))
        only = tuple(unsupported([block], networks)) if known == "alone" and networks else ()
        share = cost / mean_ms
        rows.append(BlockCost(block.key, cost, _interval(cost, std), share, known, never, only))
    return Breakdown(tuple(rows), overhead_ms, mean_ms, std_ms)


def _costs(model: LatencyModel, blocks: Sequence[Block]) -> tuple[Floats, Floats, float]:
    """Return costs ``[B]``, their covariance and the overhead; a table's costs are its rows."""
    rows = model.blocks_ms(blocks) if model.kind == "table" else {}
    found = model.posterior_over(blocks)
    ms = np.array([rows[block] for block in blocks]) if rows else found.ms
    return ms, found.covariance, model.overhead_ms if rows else found.overhead_ms


def _interval(mean_ms: float, std_ms: float) -> tuple[float, float]:
    low, high = Predictions(np.array([mean_ms]), np.array([std_ms])).interval_ms(INTERVAL)
    return float(low[0]), float(high[0])


def _blocks(model: LatencyModel, scope: Scope) -> set[Block]:
    return {block for seen in model.observations if seen.scope == scope for block in seen.blocks}
