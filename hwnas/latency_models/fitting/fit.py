"""Fitting a latency model to observations, and cross-validating it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError
from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import (
    BlockPrior,
    cost_regressors,
    fit_prior,
    untimed_prior,
)
from hwnas.latency_models.fitting.design_matrix import (
    block_grid,
    common_bias_std,
    network_data,
    network_residuals,
    null_latency_ms,
    observed_blocks,
    timed_blocks,
)
from hwnas.latency_models.fitting.network_correction import fit_correction, posterior, uncorrected
from hwnas.latency_models.model import (
    Conditions,
    HeldOut,
    LatencyModel,
    ModelKind,
    Predictions,
)
from hwnas.latency_models.observation import Observation
from hwnas.measurement.measurement import local_time

NUM_FOLDS = 6
MIN_BLOCKS, MIN_NETWORKS = 2, 3
"""A model needs at least this many timed blocks, or this many different networks."""

MAX_UNIT_RATIO = 50.0
"""Factor between networks and the sum of their blocks beyond which another unit is assumed."""

BlockCounts = frozenset[tuple[Block, int]]
"""Number of times that a network has each block."""


def fit_model(
    device: str,
    observations: Sequence[Observation],
    *,
    kind: ModelKind = "measured",
    source: str,
    sources: Sequence[LatencyModel] = (),
    conditions: Conditions | None = None,
    made: str | None = None,
    validate: bool = True,
) -> LatencyModel:
    """Fit a model, and cross-validate it over the networks if ``validate``.

    ``source`` says where the observations come from, ``sources`` are models of other devices that
    this one is adapted from. Raises `HwnasError` for observations that no model can be fitted to.
    """
    check_observations(observations)
    observations = tuple(map(_with_python_numbers, observations))
    observed = observed_blocks(observations)
    prior = _fit_prior(observations, observed, sources)
    grid = block_grid(observations, prior, sources, observed)
    data = network_data(observations, grid.blocks)
    if data.is_network.any():
        correction = fit_correction(data, grid)
        costs = posterior(correction, data, grid)
    else:
        correction, costs = None, uncorrected(grid, common_bias_std(observations))
    ms = dict(zip(grid.blocks, costs.ms.tolist(), strict=True))
    return LatencyModel(
        device=device,
        kind=kind,
        source=source,
        made=made or local_time(),
        rows_ms={block: ms[block] for block in observed},
        overhead_ms=costs.overhead_ms,
        observations=observations,
        prior=prior,
        correction=correction,
        sources=tuple(sources),
        held_out=cross_validate(device, observations, sources) if validate else None,
        conditions=conditions,
    )


def _fit_prior(
    observations: Sequence[Observation], observed: list[Block], sources: Sequence[LatencyModel]
) -> BlockPrior:
    timed = timed_blocks(observations)
    blocks = timed.blocks or observed
    regressors = cost_regressors(blocks, [source.predicted_ms(blocks) for source in sources])
    if timed.blocks:
        return fit_prior(timed, regressors, network_residuals(observations, timed, sources))
    data = network_data(observations, observed)
    return untimed_prior(data.counts, regressors, data.ms)


def update_model(model: LatencyModel, added: Sequence[Observation]) -> LatencyModel:
    """Return the model fitted again with further observations, as a session of their own.

    The factor that the new networks share (the state of the machine today) applies to all
    predictions; their information on single blocks is combined with that of the earlier
    observations.
    """
    session = 1 + max((item.session for item in model.observations), default=0)
    later = [msgspec.structs.replace(item, session=session) for item in added]
    return fit_model(
        model.device,
        [*model.observations, *later],
        kind=model.kind,
        source=model.source,
        sources=model.sources,
        conditions=model.conditions,
        made=model.made,
        validate=False,
    )


def cross_validate(
    device: str, observations: Sequence[Observation], sources: Sequence[LatencyModel] = ()
) -> HeldOut | None:
    """Score `held_out_predictions`; ``None`` with fewer than six different networks."""
    predicted = held_out_predictions(device, observations, sources)
    if predicted is None:
        return None
    measured = np.array([item.ms for item in observations if item.scope == "network"])
    return score_predictions(predicted, measured, NUM_FOLDS)


def held_out_predictions(
    device: str, observations: Sequence[Observation], sources: Sequence[LatencyModel] = ()
) -> Predictions | None:
    """Predict every network by a model of the others; ``None`` with fewer than six of them.

    A network that was measured several times is held out with all its measurements, and with the
    profiler's times of the processes that it ran in: some of those are its own.
    """
    places = [number for number, item in enumerate(observations) if item.scope == "network"]
    indices = {network: index for index, network in enumerate(_distinct_networks(observations))}
    if len(indices) < NUM_FOLDS:
        return None
    folds = np.array([indices[_identity(observations[place])] % NUM_FOLDS for place in places])
    means, stds = np.empty(len(places)), np.empty(len(places))
    for fold in range(NUM_FOLDS):
        held_out = [places[number] for number in np.flatnonzero(folds == fold)]
        processes = {(observations[n].session, observations[n].process) for n in held_out}
        rest = [
            item
            for number, item in enumerate(observations)
            if number not in set(held_out) and not _is_profiled_in(item, processes)
        ]
        model = fit_model(device, rest, source="", sources=sources, validate=False)
        predicted = model.predict([observations[number].blocks for number in held_out])
        means[folds == fold], stds[folds == fold] = predicted.mean_ms, predicted.std_ms
    return Predictions(means, stds)


def _is_profiled_in(item: Observation, processes: set[tuple[int, int]]) -> bool:
    """Return whether a profiler reported an observation in one of these sessions and processes;
    false for tables."""
    return (
        item.scope == "in_network"
        and item.process > 0
        and (item.session, item.process) in processes
    )


def score_predictions(predicted: Predictions, measured_ms: Floats, folds: int = 0) -> HeldOut:
    """Compare predictions with measurements of networks that the fit did not see."""
    errors = np.abs(predicted.mean_ms / measured_ms - 1)
    low, high = predicted.interval_ms(0.9)
    # equal values have no ranks
    ranked = np.ptp(predicted.mean_ms) > 0 and np.ptp(measured_ms) > 0
    rank: Any = cast(Any, stats).spearmanr(predicted.mean_ms, measured_ms) if ranked else None
    return HeldOut(
        networks=len(measured_ms),
        within_5=float((errors <= 0.05).mean()),
        within_10=float((errors <= 0.10).mean()),
        rmspe=float(np.sqrt((errors**2).mean())),
        spearman=float(rank.statistic) if ranked else 0.0,
        folds=folds,
        covered_90=float(((low <= measured_ms) & (measured_ms <= high)).mean()),
    )


def check_observations(observations: Sequence[Observation]) -> None:
    """Raise `HwnasError` for observations that no model can be fitted to."""
    if not observations:
        raise HwnasError("there are no observations to fit: nothing was measured")
    for item in observations:
        _check_observation(item)
    networks = [item for item in observations if item.scope == "network"]
    timed, distinct = len(timed_blocks(observations).blocks), len(_distinct_networks(networks))
    if timed < MIN_BLOCKS and distinct < MIN_NETWORKS:
        raise HwnasError(
            f"{timed} timed blocks and {distinct} different networks are too few for a model, "
            f"expected at least {MIN_BLOCKS} blocks or {MIN_NETWORKS} networks"
        )
    if distinct > MIN_NETWORKS and len({network.ms for network in networks}) == 1:
        raise HwnasError(
            f"all {len(networks)} networks take exactly {networks[0].ms:g} ms although their "
            "blocks differ: these are no measurements"
        )
    _check_units(observations, networks)


def _check_observation(item: Observation) -> None:
    count = len(item.blocks)
    name = item.blocks[0].key if count else "the null model"
    name = "a network" if item.scope == "network" else name
    if not (item.ms > 0 and np.isfinite(item.ms)):
        raise HwnasError(f"{name} has the latency {item.ms} ms, expected a positive number")
    if not (item.standard_error >= 0 and np.isfinite(item.standard_error)):
        raise HwnasError(
            f"{name} has the standard error {item.standard_error}, expected a number >= 0"
        )
    if (count > 1 and item.scope != "network") or (not count and item.scope == "in_network"):
        raise HwnasError(f"an observation {item.scope!r} has {count} blocks, expected one")


def _check_units(observations: Sequence[Observation], networks: Sequence[Observation]) -> None:
    timed, null_ms = timed_blocks(observations), null_latency_ms(observations) or 0.0
    times_ms = dict(zip(timed.blocks, timed.ms.tolist(), strict=True))
    ratios = [
        (network.ms - null_ms) / sum(times_ms[block] for block in network.blocks)
        for network in networks
        if network.blocks and all(block in times_ms for block in network.blocks)
    ]
    ratio = float(np.median(ratios)) if ratios else 1.0
    if not 1 / MAX_UNIT_RATIO < ratio < MAX_UNIT_RATIO:
        raise HwnasError(
            f"networks take {ratio:.3g} times as long as the sum of their blocks: one of the two "
            "is not in milliseconds"
        )


def _distinct_networks(observations: Sequence[Observation]) -> list[BlockCounts]:
    return list(dict.fromkeys(_identity(item) for item in observations if item.scope == "network"))


def _identity(item: Observation) -> BlockCounts:
    """Return a key that all measurements of a network share."""
    return frozenset(Counter(item.blocks).items())


def _with_python_numbers(item: Observation) -> Observation:
    """Convert numbers to Python's float and int, as the model's file stores them."""
    ms, error = float(item.ms), float(item.standard_error)
    return msgspec.structs.replace(item, ms=ms, standard_error=error, session=int(item.session))
