"""Observations as the arrays that `block_prior` and `network_correction` work on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats, shapes
from hwnas.latency_models.fitting.block_prior import (
    BlockPrior,
    Residuals,
    TimedBlocks,
    cost_regressors,
    posterior_costs,
)
from hwnas.latency_models.fitting.network_correction import COMMON_BIAS_STD
from hwnas.latency_models.fitting.network_data import (
    BlockFeatures,
    BlockGrid,
    NetworkData,
)
from hwnas.latency_models.observation import Observation

MIN_TIME_SHARE = 0.1
"""An isolated block keeps at least this share of its time when the null model is subtracted."""
MAX_UNTIMED_SHARE = 0.25
"""Largest share of the networks' blocks that may be untimed before `network_residuals` are
fitted."""
MIN_RELATIVE_ERROR = 1e-3
"""Lower bound of an observation's relative error."""


class SourceModel(Protocol):
    """A latency model of another device."""

    def predicted_ms(self, blocks: Sequence[Block]) -> Floats: ...


def null_latency_ms(observations: Sequence[Observation]) -> float | None:
    """Return the latency of the null model, or ``None`` if it was not measured."""
    null_ms = [item.ms for item in observations if item.scope == "isolated" and not item.blocks]
    return float(np.median(null_ms)) if null_ms else None


def common_bias_std(observations: Sequence[Observation]) -> float:
    """Return the relative standard deviation of all costs together while no network was
    measured."""
    if not _isolated(observations):
        return COMMON_BIAS_STD["in network"]
    return COMMON_BIAS_STD["isolated" if null_latency_ms(observations) is None else "less call"]


def timed_blocks(observations: Sequence[Observation]) -> TimedBlocks:
    """Return the blocks that were timed in isolation, less the call; else those inside networks.

    Several timings of a block are weighted by their precision.
    """
    isolated = _isolated(observations)
    null_ms = (null_latency_ms(observations) or 0.0) if isolated else 0.0
    times: dict[Block, list[tuple[float, float]]] = defaultdict(list)
    for item in isolated or [item for item in observations if item.scope == "in_network"]:
        ms = max(item.ms - null_ms, MIN_TIME_SHARE * item.ms)
        error = max(item.standard_error, MIN_RELATIVE_ERROR)
        times[item.blocks[0]].append((ms, error * item.ms / ms))
    means: list[float] = []
    errors: list[float] = []
    for values in times.values():
        precision = np.array([1 / relative**2 for _, relative in values])
        means.append(float(precision @ np.array([ms for ms, _ in values]) / precision.sum()))
        errors.append(float(precision.sum() ** -0.5))
    return TimedBlocks(list(times), np.array(means), np.array(errors))


def network_residuals(
    observations: Sequence[Observation], timed: TimedBlocks, sources: Sequence[SourceModel] = ()
) -> Residuals | None:
    """Return the residual latency of networks with mostly untimed blocks, or ``None``.

    ``None`` where no network is of that kind, or where at most `MAX_UNTIMED_SHARE` of the networks'
    blocks were never timed: a single unusual network tells little about the similarity of the other
    networks' blocks. Networks of mostly timed blocks are left out, since they would contribute the
    errors of the timed blocks.
    """
    known_ms = dict(zip(timed.blocks, timed.ms.tolist(), strict=True))
    call_ms = null_latency_ms(observations) or 0.0
    networks = [item for item in observations if item.scope == "network"]
    blocks = [block for network in networks for block in network.blocks]
    if sum(block not in known_ms for block in blocks) <= MAX_UNTIMED_SHARE * len(blocks):
        return None
    regressors: list[Floats] = []
    residual_ms: list[float] = []
    total_ms: list[float] = []
    for network in networks:
        untimed = [block for block in network.blocks if block not in known_ms]
        if 2 * len(untimed) <= len(network.blocks):
            continue
        explained_ms = call_ms + sum(known_ms.get(block, 0.0) for block in network.blocks)
        regressors.append(_regressors(untimed, sources).sum(axis=0))
        residual_ms.append(max(network.ms - explained_ms, 0.0))
        total_ms.append(network.ms)
    if not regressors:
        return None
    return Residuals(np.array(regressors), np.array(residual_ms), np.array(total_ms))


def network_data(observations: Sequence[Observation], blocks: Sequence[Block]) -> NetworkData:
    """Return the observations that the correction is fitted to, as counts of ``blocks``.

    These are the networks and, where blocks were timed in isolation, also those inside networks.
    """
    scopes = ("network", "in_network") if _isolated(observations) else ("network",)
    chosen = [item for item in observations if item.scope in scopes]
    place = {block: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(chosen), len(blocks)))
    for row, item in zip(counts, chosen, strict=True):
        for block in item.blocks:
            row[place[block]] += 1
    return NetworkData(
        counts,
        np.array([item.ms for item in chosen]),
        np.array([max(item.standard_error, MIN_RELATIVE_ERROR) for item in chosen]),
        np.array([float(item.scope == "network") for item in chosen]),
        [item.session for item in chosen],
        [item.process for item in chosen],
    )


def observed_blocks(observations: Sequence[Observation]) -> list[Block]:
    """Return the distinct blocks of the observations."""
    return list(dict.fromkeys(block for item in observations for block in item.blocks))


def block_grid(
    observations: Sequence[Observation],
    prior: BlockPrior,
    sources: Sequence[SourceModel],
    further: Sequence[Block] = (),
) -> BlockGrid:
    """Return the grid of every block of the networks, and of ``further`` blocks."""
    timed = timed_blocks(observations)
    needed = observed_blocks([item for item in observations if item.scope == "network"])
    blocks = list(dict.fromkeys([*needed, *further]))
    regressors = _regressors([*timed.blocks, *blocks], sources)
    costs = posterior_costs(prior, timed, blocks, regressors)
    coordinates, groups = shapes(blocks)
    params = np.array([float(block.params) for block in blocks])
    features = BlockFeatures(regressors[len(timed.blocks) :], coordinates, groups, params)
    return BlockGrid(blocks, costs, features, prior, null_latency_ms(observations) or 0.0)


def _isolated(observations: Sequence[Observation]) -> list[Observation]:
    """Return the observations of isolated blocks, without the null model."""
    return [item for item in observations if item.scope == "isolated" and item.blocks]


def _regressors(blocks: Sequence[Block], sources: Sequence[SourceModel]) -> Floats:
    return cost_regressors(blocks, [source.predicted_ms(blocks) for source in sources])
