"""The terms of the correction's covariance: what blocks' deviations inside networks have in common.

``Cov(g) = s_0^2 11^T + s_w^2 P P^T + s_f^2 Matern52 + s_i^2 I + sum_j s_j^2 u_j u_j^T``, beside
the block prior's own uncertainty: what all blocks have in common inside networks, what resources
and what like blocks have in common, each block's own, and what goes with a number of it (`along`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats, shapes, shares
from hwnas.latency_models.fitting.block_prior import BlockPrior, Index, Rows
from hwnas.latency_models.fitting.gaussian import Prior, matern52

TERMS = (
    Prior("common", 0.1), Prior("shares", 0.1), Prior("shape", 0.1), Prior("each", 0.04),
    Prior("overhead", 1.0), Prior("noise", 0.02, 1.0), Prior("session", 0.01, 1.0),
    Prior("profiler", 0.1), Prior("profiler noise", 0.05), Prior("process", 0.006, 0.5),
    Prior("call", 0.2, 0.5), Prior("weights", 0.04),
)  # fmt: skip
"""What a process does to all its networks was 0.003 over 36 pairs of processes, 0.011 at most."""

FIRST = 10
"""Place in `TERMS` of the first of those that are `along` a number of a block."""

CALLS = 4.0
"""A block that takes as long as so many calls of the null model has half of what a call leaves in
a block's time alone, a long one next to nothing of it."""

WEIGHTS = 1000.0
"""Below so many parameters each one counts the same, above each doubling."""


Scales = Sequence[float] | Floats
"""One number for each of `TERMS`."""


class Seen(NamedTuple):
    """Observations of networks, and of blocks inside them, over a list of blocks."""

    counts: Floats
    """``[N, B]``."""
    ms: Floats
    error: Floats
    """Relative standard error."""
    network: Floats
    """1 where a whole network was measured, 0 for a block inside one."""
    session: Sequence[int]
    process: Sequence[int]


class Field(NamedTuple):
    """The blocks that the correction is over: prior rows and how their deviations are related."""

    blocks: Sequence[Block]
    rows: Rows
    amounts: Floats
    prior: BlockPrior
    null_ms: float
    coordinates: tuple[Floats, Index] | None = None
    """Of the kernel over shapes, and their groups, where they are not those of `shapes`."""


def along(seen: Seen, field: Field) -> Floats:
    """Return the directions ``u_j``, ``[2, B]``, of blocks that were timed alone; else zeros.

    A call's rest in a short block's time, ``c / (m + c)`` with ``c`` the time of `CALLS` null
    calls; and the parameters ``w`` (alone, a block probably finds them in the caches),
    ``log(1 + w / WEIGHTS)`` less its mean over the networks' time.
    """
    ms, spent = field.rows.ms, seen.network @ seen.counts * field.rows.ms
    if field.null_ms <= 0 or not spent.any():
        return np.zeros((2, len(ms)))
    call_ms = CALLS * field.null_ms
    weights = np.log1p(np.array([block.params for block in field.blocks]) / WEIGHTS)
    return np.array([call_ms / (ms + call_ms), weights - np.average(weights, weights=spent)])


class Terms:
    """The terms of the covariance, between observations and from the state to observations.

    The state is ``(g, o)``: relative deviations of the blocks, and the overhead above the null
    model's, in ms.
    """

    def __init__(self, seen: Seen, field: Field, overhead_ms: float) -> None:
        self.seen, self.field, self.size = seen, field, len(field.rows.ms)
        self.scaled = seen.counts * field.rows.ms
        self.total = self.scaled.sum(axis=1)
        self.overhead_ms = overhead_ms
        self.own = field.rows.covariance
        self.part = shares(field.amounts, np.array(field.prior.weights))
        coordinates, groups = field.coordinates or shapes(field.blocks)
        self.shape, _ = matern52(coordinates, coordinates, field.prior.shape_lengths, groups)
        self.to_own = self.own @ self.scaled.T
        self.to_shape = self.shape @ self.scaled.T
        self.spread = self.scaled @ self.part
        self.along = along(seen, field)
        self.to_along = self.scaled @ self.along.T
        latest = max(seen.session, default=0)
        sessions = np.array(seen.session)
        several = len(set(seen.session)) > 1
        same = sessions[:, None] == sessions[None, :]
        self.together = same * float(several)
        self.latest = (sessions == latest) * float(several)
        process = np.array(seen.process)
        # every session may count its processes from one
        self.beside = same * (process[:, None] == process[None, :]) * (process > 0)

    def grams(self) -> list[Floats]:
        """Return ``[N, N]`` for each of `TERMS`."""
        network, inside = self.seen.network, 1 - self.seen.network
        both = np.outer(self.total, self.total)
        return [
            both,
            self.spread @ self.spread.T,
            self.scaled @ self.to_shape,
            self.scaled @ self.scaled.T,
            self.overhead_ms**2 * np.outer(network, network),
            np.diag(network * self.seen.ms**2),
            both * np.outer(network, network) * self.together,
            both * np.outer(inside, inside),
            np.diag(inside * self.seen.ms**2),
            both * np.outer(network, network) * self.beside,
            *(np.outer(effect, effect) for effect in self.to_along.T),
        ]

    def cross(self, scales: Scales) -> Floats:
        """Return the prior covariance ``[B + 1, N]`` of state and observations."""
        s_0, s_w, s_f, s_i, s_o, _, s_d = scales[:7]
        to_blocks = (
            self.to_own
            + s_0**2 * self.total
            + s_w**2 * self.part @ self.spread.T
            + s_f**2 * self.to_shape
            + s_i**2 * self.scaled.T
            + s_d**2 * (self.total * self.latest * self.seen.network)
            + (self.along.T * np.square(scales[FIRST:])) @ self.to_along.T
        )
        to_overhead = s_o**2 * self.overhead_ms**2 * self.seen.network
        return np.vstack([to_blocks, to_overhead])

    def prior(self, scales: Scales) -> Floats:
        """Return the prior covariance ``[B + 1, B + 1]`` of the state."""
        s_0, s_w, s_f, s_i, s_o, _, s_d = scales[:7]
        several = float(self.latest.any())
        whole = np.zeros((self.size + 1, self.size + 1))
        whole[:-1, :-1] = (
            self.own
            + s_0**2
            + s_w**2 * self.part @ self.part.T
            + s_f**2 * self.shape
            + s_i**2 * np.eye(self.size)
            + s_d**2 * several
            + (self.along.T * np.square(scales[FIRST:])) @ self.along
        )
        whole[-1, -1] = s_o**2 * self.overhead_ms**2
        return whole
