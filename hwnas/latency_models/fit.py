"""Fitting a block table to measurements of blocks alone and of whole networks.

Let ``y_b`` be a block alone, ``y_n`` a network with blocks ``b in n``. In two steps:

1.  ``y_n = scale * sum_b (y_b - call) + overhead``: what a block alone costs more than inside (the
    call) and what it costs less (colder caches). Ridge regression on relative errors, with weak
    priors scale 1 +- 0.3, call and overhead 0 +- 2 % of a typical network; call, overhead >= 0.
2.  ``theta = m + deviation`` with ``m_b = scale * (y_b - call)``, deviations N(0, (0.05 m_b)^2) a
    priori: the posterior mean given the networks, a linear Gaussian model in closed form.

The covariance of step 2 is diagonal here; shared deviations of like blocks (reference: a Gaussian
process over block features) take its place with the full model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats  # pyright: ignore[reportMissingTypeStubs]

from hwnas.errors import HwnasError
from hwnas.latency_models.table import HeldOut, LatencyTable, NetworkMeasured

Floats = NDArray[np.float64]

FOLDS = 6
SCALE_STD = 0.3
SHARE_STD = 0.02
DEVIATION = 0.05
NOISE_FLOOR = 0.01
"""Relative noise of a network's measurement that is assumed at least."""


class Fit(msgspec.Struct, frozen=True):
    """Rows of a table and what was learnt on the way."""

    rows_ms: dict[str, float]
    overhead_ms: float
    scale: float
    call_ms: float


def fit_table(isolated_ms: dict[str, float], networks: Sequence[NetworkMeasured]) -> Fit:
    """Return the latency of each block inside a network.

    Raises `HwnasError` for latencies that are not positive and for networks with blocks that were
    never measured alone.
    """
    _check(isolated_ms, networks)
    keys = list(isolated_ms)
    alone = np.array([isolated_ms[key] for key in keys])
    if not networks:
        return Fit(dict(isolated_ms), 0.0, 1.0, 0.0)
    counts = _counts(keys, networks)
    observed = np.array([network.ms for network in networks])
    noise = np.array([max(NOISE_FLOOR, network.standard_error) for network in networks])
    scale, call_ms, overhead_ms = _correction(counts, alone, observed, noise)
    inside = np.maximum(scale * (alone - call_ms), 0.05 * alone)
    inside = _posterior(counts, inside, observed - overhead_ms, noise * observed)
    rows = dict(zip(keys, inside.tolist(), strict=True))
    return Fit(rows, overhead_ms, scale, call_ms)


def fitted(table: LatencyTable, observed: Sequence[NetworkMeasured]) -> LatencyTable:
    """Return ``table`` with its rows fitted to its blocks alone and to ``observed``."""
    fit = fit_table(table.isolated_ms, observed)
    return msgspec.structs.replace(
        table,
        rows_ms=fit.rows_ms,
        overhead_ms=fit.overhead_ms,
        scale=fit.scale,
        call_ms=fit.call_ms,
        observed=tuple(observed),
        held_out=held_out(table.isolated_ms, observed),
    )


def observe(table: LatencyTable, added: Sequence[NetworkMeasured]) -> LatencyTable:
    """Return the table corrected by further measured networks of known blocks.

    The table is the prior: first all rows follow the median ratio of measured to predicted (what
    the networks have in common), then step 2 explains the rest block by block. Networks near the
    budget so count for more than the many that the table was once fitted to.
    """
    known = [one for one in added if all(key in table.rows_ms for key in one.keys)]
    if not known:
        return table
    _check(table.rows_ms, known)
    keys = list(table.rows_ms)
    counts = _counts(keys, known)
    rows = np.array([table.rows_ms[key] for key in keys])
    measured = np.array([one.ms for one in known])
    ratio = float(np.median(measured / (counts @ rows + table.overhead_ms)))
    noise = np.array([max(NOISE_FLOOR, one.standard_error) for one in known])
    overhead_ms = ratio * table.overhead_ms
    rows = _posterior(counts, ratio * rows, measured - overhead_ms, noise * measured)
    return msgspec.structs.replace(
        table,
        rows_ms=dict(zip(keys, rows.tolist(), strict=True)),
        overhead_ms=overhead_ms,
        scale=ratio * table.scale,
        observed=(*table.observed, *known),
    )


def held_out(isolated_ms: dict[str, float], networks: Sequence[NetworkMeasured]) -> HeldOut | None:
    """Cross-validate `fit_table` over networks; ``None`` with too few to leave any out."""
    folds = min(FOLDS, len(networks))
    if len(networks) < 6:
        return None
    predicted = np.empty(len(networks))
    for fold in range(folds):
        rest = [net for number, net in enumerate(networks) if number % folds != fold]
        fit = fit_table(isolated_ms, rest)
        for number in range(fold, len(networks), folds):
            predicted[number] = predict(fit, networks[number].keys)
    observed = np.array([network.ms for network in networks])
    errors = np.abs(predicted / observed - 1)
    rank: Any = cast(Any, stats).spearmanr(predicted, observed)
    return HeldOut(
        networks=len(networks),
        within_5=float((errors <= 0.05).mean()),
        within_10=float((errors <= 0.10).mean()),
        rmspe=float(np.sqrt((errors**2).mean())),
        spearman=0.0 if np.isnan(rank.statistic) else float(rank.statistic),
        folds=folds,
    )


def predict(fit: Fit, keys: Sequence[str]) -> float:
    """Return the latency of a network, in ms."""
    return fit.overhead_ms + sum(fit.rows_ms[key] for key in keys)


def _counts(keys: list[str], networks: Sequence[NetworkMeasured]) -> Floats:
    place = {key: number for number, key in enumerate(keys)}
    counts = np.zeros((len(networks), len(keys)))
    for row, network in enumerate(networks):
        for key in network.keys:
            counts[row, place[key]] += 1
    return counts


def _correction(
    counts: Floats, alone: Floats, observed: Floats, noise: Floats
) -> tuple[float, float, float]:
    """Step 1: scale, call and overhead, non-negative, with priors as pseudo-observations."""
    size_ms = float(np.median(observed))
    blocks = counts.sum(1)
    # unknowns: scale; scale * call (per block); overhead. y = scale * sum - call' * blocks + o
    design = np.column_stack([counts @ alone, -blocks, np.ones(len(observed))])
    weight = 1 / (noise * observed)
    typical = float(np.median(blocks))
    prior = np.diag([1 / SCALE_STD, typical / (5 * SHARE_STD * size_ms), 1 / (SHARE_STD * size_ms)])
    rows = np.vstack([design * weight[:, None], prior])
    target = np.concatenate([observed * weight, [1 / SCALE_STD, 0.0, 0.0]])
    scale, call, overhead_ms = _non_negative(rows, target)
    scale = max(scale, 0.1)
    # the call may cost at most most of the cheapest block: a row must stay positive
    call_ms = min(call / scale, 0.9 * float(alone.min()))
    return scale, call_ms, overhead_ms


def _non_negative(design: Floats, target: Floats) -> list[float]:
    """Least squares with non-negative unknowns."""
    solution: Floats = cast(Any, optimize).nnls(design, target)[0]
    return solution.tolist()


def _posterior(counts: Floats, mean: Floats, observed: Floats, noise_ms: Floats) -> Floats:
    """Step 2: ``mean + V S^T (S V S^T + N)^-1 (y - S mean)`` with ``V = diag((0.05 mean)^2)``."""
    variance = (DEVIATION * mean) ** 2
    spread = (counts * variance) @ counts.T + np.diag(noise_ms**2)
    gain = (counts * variance).T @ np.linalg.solve(spread, observed - counts @ mean)
    return np.maximum(mean + gain, 0.2 * mean)


def _check(isolated_ms: dict[str, float], networks: Sequence[NetworkMeasured]) -> None:
    if not isolated_ms:
        raise HwnasError("no block was measured: there is nothing to fit")
    for name, ms in [*isolated_ms.items(), *(("a network", net.ms) for net in networks)]:
        if not (ms > 0 and np.isfinite(ms)):
            raise HwnasError(f"{name} has the latency {ms} ms, expected a positive number")
    for network in networks:
        if missing := [key for key in network.keys if key not in isolated_ms]:
            raise HwnasError(f"block {missing[0]!r} of a network was never measured alone")
