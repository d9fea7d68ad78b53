"""From observations to a latency model, and how well it predicts what it did not see."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, cast

import msgspec
import numpy as np
from scipy import stats  # pyright: ignore[reportMissingTypeStubs]

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError
from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import amounts_of, fit_prior, untimed_prior
from hwnas.latency_models.fitting.design_matrix import (
    bias_of,
    field_over,
    left_over,
    null_of,
    observed_blocks,
    seen_over,
    timed_blocks,
)
from hwnas.latency_models.fitting.network_correction import fit_correction, posterior, uncorrected
from hwnas.latency_models.model import (
    SCHEMA,
    Conditions,
    HeldOut,
    LatencyModel,
    Predictions,
)
from hwnas.latency_models.observation import Observation

FOLDS = 6
LEAST_BLOCKS, LEAST_NETWORKS = 2, 3
"""Fewer blocks with times of their own and fewer networks are too few for a model."""

UNITS = 50.0
"""Networks that differ from the sum of their blocks by more than this factor have another unit."""


def fit_model(
    device: str,
    observations: Sequence[Observation],
    *,
    kind: Literal["measured", "table", "adapted", "simulated", "emulated"] = "measured",
    source: str,
    sources: Sequence[LatencyModel] = (),
    conditions: Conditions | None = None,
    made: str | None = None,
    validate: bool = True,
) -> LatencyModel:
    """Fit a model; with ``validate`` also cross-validate it over the networks.

    Raises `HwnasError` for observations that cannot be: see `check`.
    """
    check(observations)
    observations = tuple(map(_plain, observations))
    timed = timed_blocks(observations)
    known = observed_blocks(observations)
    first = timed.blocks or known
    amounts = amounts_of(first, [one.predicted_ms(first) for one in sources])
    if timed.blocks:
        prior = fit_prior(timed, amounts, left_over(observations, timed, sources))
    else:
        seen = seen_over(observations, known)
        prior = untimed_prior(seen.counts, amounts, seen.ms)
    field = field_over(observations, prior, sources, known)
    seen = seen_over(observations, field.blocks)
    if seen.network.any():
        correction = fit_correction(seen, field)
        found = posterior(correction, seen, field)
    else:
        correction, found = None, uncorrected(field, bias_of(observations))
    costs = {block.key: float(ms) for block, ms in zip(field.blocks, found.ms, strict=True)}
    model = LatencyModel(
        schema=SCHEMA,
        device=device,
        kind=kind,
        source=source,
        made=made or datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        rows_ms={block.key: costs[block.key] for block in known},
        overhead_ms=found.overhead_ms,
        observations=observations,
        prior=prior,
        correction=correction,
        sources=tuple(sources),
        held_out=cross_validated(device, observations, sources) if validate else None,
        conditions=conditions,
    )
    return sealed(model)


def sealed(model: LatencyModel) -> LatencyModel:
    """Return the model with the hash of its content."""
    return msgspec.structs.replace(model, sha256=model.content_sha256)


def observe(model: LatencyModel, added: Sequence[Observation]) -> LatencyModel:
    """Return the model fitted again with further observations, as a session of their own.

    What the new networks have in common (the machine's state today) holds for all predictions;
    what they say of blocks is weighed against what the old ones said.
    """
    session = 1 + max((one.session for one in model.observations), default=0)
    later = [msgspec.structs.replace(one, session=session) for one in added]
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


def cross_validated(
    device: str, observations: Sequence[Observation], sources: Sequence[LatencyModel] = ()
) -> HeldOut | None:
    """Score `left_out` predictions; ``None`` with fewer than six networks."""
    predicted = left_out(device, observations, sources)
    if predicted is None:
        return None
    measured = np.array([one.ms for one in observations if one.what == "network"])
    return score(predicted, measured, FOLDS)


def left_out(
    device: str, observations: Sequence[Observation], sources: Sequence[LatencyModel] = ()
) -> Predictions | None:
    """Predict every network by a model of the others; ``None`` with fewer than six networks.

    A network that was measured several times is left out with all its measurements, and with a
    profiler's figures of what was measured beside it: some are its own.
    """
    places = [number for number, one in enumerate(observations) if one.what == "network"]
    kinds = {kind: number for number, kind in enumerate(_different(observations))}
    if len(kinds) < FOLDS:
        return None
    folds = np.array([kinds[_kind(observations[number])] % FOLDS for number in places])
    means, stds = np.empty(len(places)), np.empty(len(places))
    for fold in range(FOLDS):
        chosen = [places[number] for number in np.flatnonzero(folds == fold)]
        beside = {(observations[n].session, observations[n].process) for n in chosen}
        rest = [
            one
            for number, one in enumerate(observations)
            if number not in set(chosen) and not _profiled(one, beside)
        ]
        model = fit_model(device, rest, source="", sources=sources, validate=False)
        found = model.predict([blocks_of(observations[number]) for number in chosen])
        means[folds == fold], stds[folds == fold] = found.mean_ms, found.std_ms
    return Predictions(means, stds)


def _profiled(one: Observation, beside: set[tuple[int, int]]) -> bool:
    """Say whether it is a profiler's figure of these sessions and processes; tables have none."""
    return one.what == "inside" and one.process > 0 and (one.session, one.process) in beside


def score(predicted: Predictions, measured_ms: Floats, folds: int = 0) -> HeldOut:
    """Compare predictions with measurements of networks that were not fitted."""
    errors = np.abs(predicted.mean_ms / measured_ms - 1)
    low, high = predicted.interval_ms(0.9)
    # where all are equal there is no rank
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


def blocks_of(one: Observation) -> list[Block]:
    return [Block.from_key(key) for key in one.keys]


def check(observations: Sequence[Observation]) -> None:
    """Raise `HwnasError` for observations of which no model can be made."""
    if not observations:
        raise HwnasError("nothing was measured: there are no observations to fit")
    for one in observations:
        name = "a network" if one.what == "network" else (one.keys or ("the null model",))[0]
        if not (one.ms > 0 and np.isfinite(one.ms)):
            raise HwnasError(f"{name} has the latency {one.ms} ms, expected a positive number")
        if not (one.standard_error >= 0 and np.isfinite(one.standard_error)):
            raise HwnasError(
                f"{name} has the standard error {one.standard_error}, expected a number >= 0"
            )
        if (len(one.keys) > 1 and one.what != "network") or (not one.keys and one.what == "inside"):
            raise HwnasError(
                f"an observation {one.what!r} has {len(one.keys)} blocks, expected one"
            )
    networks = [one for one in observations if one.what == "network"]
    timed = timed_blocks(observations)
    different = len(_different(networks))
    if len(timed.blocks) < LEAST_BLOCKS and different < LEAST_NETWORKS:
        raise HwnasError(
            f"{len(timed.blocks)} timed blocks and {different} different networks are too few for "
            f"a model, expected at least {LEAST_BLOCKS} blocks or {LEAST_NETWORKS} networks"
        )
    if different > LEAST_NETWORKS and len({one.ms for one in networks}) == 1:
        raise HwnasError(
            f"all {len(networks)} networks take exactly {networks[0].ms:g} ms although their "
            "blocks differ: this was not measured"
        )
    _check_units(observations, networks)


def _different(observations: Sequence[Observation]) -> list[tuple[str, ...]]:
    """Return what networks were measured, each once."""
    return list(dict.fromkeys(_kind(one) for one in observations if one.what == "network"))


def _kind(one: Observation) -> tuple[str, ...]:
    return tuple(sorted(one.keys))


def _plain(one: Observation) -> Observation:
    """Numbers of numpy and whole numbers would not survive the file as they are."""
    return msgspec.structs.replace(
        one, ms=float(one.ms), standard_error=float(one.standard_error), session=int(one.session)
    )


def _check_units(observations: Sequence[Observation], networks: Sequence[Observation]) -> None:
    timed = timed_blocks(observations)
    alone = dict(zip((block.key for block in timed.blocks), timed.ms.tolist(), strict=True))
    ratios = [
        (one.ms - (null_of(observations) or 0.0)) / sum(alone[key] for key in one.keys)
        for one in networks
        if one.keys and all(key in alone for key in one.keys)
    ]
    if ratios and not 1 / UNITS < (ratio := float(np.median(ratios))) < UNITS:
        raise HwnasError(
            f"networks take {ratio:.3g} times the sum of their blocks: the one or the other is not "
            "in milliseconds"
        )
