"""The correction by whole networks against plain conditioning."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hwnas.latency_models.features import Floats, resources, shapes
from hwnas.latency_models.fitting.block_prior import BlockCosts, BlockPrior
from hwnas.latency_models.fitting.covariance_terms import (
    HALF_OVERHEAD_CALLS,
    PARAMS_KNEE,
    TERMS,
    CovarianceTerm,
    Scales,
)
from hwnas.latency_models.fitting.gaussian import Prior, matern52
from hwnas.latency_models.fitting.network_correction import Correction, fit_correction, posterior
from hwnas.latency_models.fitting.network_data import (
    BlockFeatures,
    BlockGrid,
    NetworkData,
)
from tests.support.data.synthetic import BLOCKS, WEIGHTS

SCALES = {
    "common": 0.1,
    "shares": 0.07,
    "shape": 0.09,
    "each": 0.05,
    "overhead": 0.8,
    "noise": 0.02,
    "session": 0.03,
    "profiler": 0.12,
    "profiler noise": 0.06,
    "process": 0.04,
    "call": 0.2,
    "weights": 0.05,
}
NULL_MS, OVERHEAD_MS = 0.03, 0.02


def small_grid() -> BlockGrid:
    """Four blocks whose prior costs are correlated."""
    blocks = [BLOCKS[0], BLOCKS[5], BLOCKS[20], BLOCKS[33]]
    root = 0.05 * np.random.default_rng(0).standard_normal((4, 4))
    costs = BlockCosts(np.array([0.01, 0.05, 0.02, 0.04]), root @ root.T)
    prior = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 0.7))
    params = np.array([float(block.params) for block in blocks])
    features = BlockFeatures(resources(blocks), *shapes(blocks), params)
    return BlockGrid(blocks, costs, features, prior, NULL_MS)


def small_data() -> NetworkData:
    """Four networks of two sessions and three processes, and two times from a profiler."""
    counts = np.array(
        [
            [1, 2, 0, 0],
            [1, 1, 1, 1],
            [0, 0, 1, 0],
            [1, 0, 3, 1],
            [0, 0, 0, 1],
            [1, 1, 2, 0],
        ],
        dtype=float,
    )
    ms = np.array([0.15, 0.17, 0.018, 0.12, 0.05, 0.13])
    error = np.array([0.01, 0.02, 0.03, 0.01, 0.02, 0.015])
    network = np.array([1.0, 1, 0, 1, 0, 1])
    return NetworkData(counts, ms, error, network, [0, 0, 0, 2, 2, 2], [1, 1, 0, 0, 0, 1])


def conditioned(
    data: NetworkData, grid: BlockGrid, scales: Scales, widened: Sequence[int] = ()
) -> tuple[Floats, Floats]:
    """Mean and covariance of (costs, overhead), by conditioning all causes jointly."""
    count, blocks, sessions = len(data.ms), len(grid.blocks), sorted(set(data.session))
    share = grid.features.regressors * np.array(grid.prior.weights)
    share /= share.sum(axis=1, keepdims=True)
    coordinates, groups = shapes(grid.blocks)
    shape, _ = matern52(coordinates, coordinates, np.array(grid.prior.lengths), groups)
    ms = grid.costs.ms
    own, eye = np.diag(ms), np.eye(blocks)
    call_ms = HALF_OVERHEAD_CALLS * grid.null_ms
    brief = ms * call_ms / (ms + call_ms)
    spent = (data.counts * data.is_network[:, None]).sum(axis=0) * ms
    params = np.array([block.params for block in grid.blocks])
    heavy = np.log(1 + params / PARAMS_KNEE)
    heavy = ms * (heavy - heavy @ spent / spent.sum())
    ran = list(zip(data.session, data.process, strict=True))
    processes = sorted({run for run in ran if run[1] > 0})
    of_process = np.array([[float(run == p) for p in processes] for run in ran])
    of_session = np.array([[float(ran_in == s) for s in sessions] for ran_in in data.session])
    total, network = data.counts @ ms, data.is_network
    # of each cause: variance, effect on the costs, effect on observations beside that of the costs
    nothing = np.zeros((count, blocks))
    causes: list[tuple[Floats, Floats, Floats]] = [
        (grid.costs.covariance, own, nothing),
        (scales["common"] ** 2 * np.eye(1), ms[:, None], nothing[:, :1]),
        (
            scales["shares"] ** 2 * np.eye(share.shape[1]),
            own @ share,
            np.zeros((count, share.shape[1])),
        ),
        (scales["shape"] ** 2 * shape, own, nothing),
        (scales["each"] ** 2 * eye, own, nothing),
        (scales["call"] ** 2 * np.eye(1), brief[:, None], nothing[:, :1]),
        (scales["weights"] ** 2 * np.eye(1), heavy[:, None], nothing[:, :1]),
    ]
    state, effect, variance = [], [], []
    for spread, on_costs, beside in causes:
        state.append(np.vstack([on_costs, np.zeros((1, on_costs.shape[1]))]))
        effect.append(data.counts @ on_costs + beside)
        variance.append(spread)
    # the overhead; the sessions, of which the last is part of today's costs; the profiler; noise
    last = np.zeros((blocks + 1, len(sessions)))
    last[:-1, -1] = ms
    overhead = np.zeros((blocks + 1, 1))
    overhead[-1] = 1
    noise = (
        np.where(network > 0, scales["noise"], scales["profiler noise"]) ** 2
        + data.relative_error**2
    )
    noise = noise * data.ms**2
    expected = total + network * grid.null_ms
    for place in widened:
        noise[place] += max((data.ms[place] - expected[place]) ** 2, (0.1 * data.ms[place]) ** 2)
    state += [overhead, last, np.zeros((blocks + 1, 1 + count + len(processes)))]
    effect += [
        network[:, None],
        (total * network)[:, None] * of_session,
        np.column_stack(
            [total * (1 - network), np.eye(count), (total * network)[:, None] * of_process]
        ),
    ]
    variance += [
        np.array([[(scales["overhead"] * OVERHEAD_MS) ** 2]]),
        scales["session"] ** 2 * np.eye(len(sessions)),
        np.diag([scales["profiler"] ** 2, *noise, *([scales["process"] ** 2] * len(processes))]),
    ]
    size = sum(map(len, variance))
    prior, start = np.zeros((size, size)), 0
    for part in variance:
        prior[start : start + len(part), start : start + len(part)] = part
        start += len(part)
    to_state, to_seen = np.hstack(state), np.hstack(effect)
    gain = to_state @ prior @ to_seen.T @ np.linalg.inv(to_seen @ prior @ to_seen.T)
    mean = np.append(ms, grid.null_ms) + gain @ (data.ms - expected)
    return mean, (to_state - gain @ to_seen) @ prior @ to_state.T


def one_draw(scales: Scales, outliers: tuple[int, ...] = ()) -> Correction:
    draws = {name: (scale,) for name, scale in scales.items()}
    return Correction(draws, (1.0,), OVERHEAD_MS, outliers=outliers)


@pytest.mark.parametrize("outliers", [(), (1,), (2, 3)])
def test_the_posterior_is_that_of_conditioning_the_joint_gaussian(
    outliers: tuple[int, ...],
) -> None:
    data, grid = small_data(), small_grid()
    costs = posterior(one_draw(SCALES, outliers), data, grid)
    mean, covariance = conditioned(data, grid, SCALES, outliers)
    np.testing.assert_allclose([*costs.ms, costs.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(costs.covariance, covariance, rtol=1e-6, atol=1e-12)
    assert costs.noise == pytest.approx(np.hypot(0.02, 0.04))
    assert np.abs(costs.ms / grid.costs.ms - 1).max() > 0.02


@pytest.mark.parametrize("outliers", [(), (7, 20)])
def test_with_more_observations_than_causes_it_is_the_same(outliers: tuple[int, ...]) -> None:
    few, grid, rng = small_data(), small_grid(), np.random.default_rng(3)
    counts = np.vstack(
        [few.counts, rng.integers(0, 3, (40, 4)) + np.eye(4)[rng.integers(0, 4, 40)]]
    )
    network = np.append(few.is_network, np.ones(40))
    ms = counts @ grid.costs.ms * rng.normal(1.1, 0.1, 46) + network * NULL_MS
    session, process = rng.integers(0, 3, 46).tolist(), rng.integers(0, 3, 46).tolist()
    data = NetworkData(counts, ms, np.full(46, 0.01), network, session, process)
    costs = posterior(one_draw(SCALES, outliers), data, grid)
    mean, covariance = conditioned(data, grid, SCALES, outliers)
    np.testing.assert_allclose([*costs.ms, costs.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(costs.covariance, covariance, rtol=1e-5, atol=1e-12)


def test_one_session_has_no_factor_of_its_own() -> None:
    data, grid = small_data()._replace(session=[0] * 6), small_grid()
    for session_scale in (0.03, 0.3):
        costs = posterior(one_draw({**SCALES, "session": session_scale}), data, grid)
        mean, covariance = conditioned(data, grid, {**SCALES, "session": 0.0})
        np.testing.assert_allclose([*costs.ms, costs.overhead_ms], mean, rtol=0, atol=1e-8)
        np.testing.assert_allclose(costs.covariance, covariance, rtol=1e-6, atol=1e-12)


def test_draws_are_summarised_by_mean_and_covariance_of_their_mixture() -> None:
    data, grid = small_data(), small_grid()
    values = (0.3, 0.01, 0.2, 0.01, 0.3, 0.01, 0.1, 0.2, 0.1, 0.01, 0.1, 0.02)
    other = dict(zip(SCALES, values, strict=True))
    draws = {name: (SCALES[name], other[name]) for name in SCALES}
    costs = posterior(Correction(draws, (0.3, 0.7), OVERHEAD_MS, 1.5), data, grid)
    each = [conditioned(data, grid, scales) for scales in (SCALES, other)]
    mean = 0.3 * each[0][0] + 0.7 * each[1][0]
    covariance = sum(
        weight * (of_draw + np.outer(mean_of_draw - mean, mean_of_draw - mean))
        for weight, (mean_of_draw, of_draw) in zip((0.3, 0.7), each, strict=True)
    )
    np.testing.assert_allclose([*costs.ms, costs.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(costs.covariance, 1.5 * covariance, rtol=1e-6, atol=1e-12)
    squares = 0.3 * (0.02**2 + 0.04**2) + 0.7 * (0.01**2 + 0.01**2)
    assert costs.noise == pytest.approx(squares**0.5)


def test_unknown_processes_share_nothing() -> None:
    data, grid = small_data()._replace(process=[0] * 6), small_grid()
    costs = posterior(one_draw(SCALES), data, grid)
    mean, covariance = conditioned(data, grid, SCALES)
    np.testing.assert_allclose([*costs.ms, costs.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(costs.covariance, covariance, rtol=1e-6, atol=1e-12)
    assert costs.noise == SCALES["noise"]


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_costs_stay_positive_whatever_the_networks_take(factor: float) -> None:
    data, grid = small_data(), small_grid()
    data = data._replace(ms=factor * data.ms)
    costs = posterior(fit_correction(data, grid), data, grid)
    assert costs.ms.min() > 0
    assert np.isfinite(costs.covariance).all()


def test_an_outlier_counts_for_little_but_counts() -> None:
    data, grid = small_data(), small_grid()
    odd = data._replace(ms=data.ms * np.array([1, 1.5, 1, 1, 1, 1]))
    others = [0, 2, 3, 4, 5]
    arrays = odd.counts[others], odd.ms[others], odd.relative_error[others], odd.is_network[others]
    rest = NetworkData(*arrays, session=[0, 0, 2, 2, 2], process=[1, 0, 0, 0, 1])
    trusted, widened = one_draw(SCALES), one_draw(SCALES, outliers=(1,))
    dropped_ms, widened_ms, trusted_ms = (
        float(posterior(correction, observed, grid).ms @ odd.counts[1])
        for correction, observed in ((trusted, rest), (widened, odd), (trusted, odd))
    )
    assert dropped_ms < widened_ms < dropped_ms + 0.3 * (trusted_ms - dropped_ms)


def test_a_term_without_an_effect_on_the_data_has_no_scale() -> None:
    data, grid = small_data(), small_grid()
    assert set(fit_correction(data, grid).scales) == set(TERMS)
    networks = data._replace(is_network=np.ones(6), session=[0] * 6, process=[0] * 6)
    fitted = fit_correction(networks, grid)
    absent = {"session", "process", "profiler", "profiler noise"}
    assert set(fitted.scales) == set(TERMS) - absent


def test_a_new_term_is_one_entry_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    tide = CovarianceTerm("tide", Prior(0.1), lambda design: design.of_blocks(np.eye(4)[:, :1]))
    monkeypatch.setitem(TERMS, "tide", tide)
    data, grid = small_data(), small_grid()
    correction = fit_correction(data, grid)
    assert "tide" in correction.scales
    zero = (0.0,) * len(correction.weights)
    still = msgspec.structs.replace(correction, scales={**correction.scales, "tide": zero})
    with_tide, without = (posterior(c, data, grid).covariance for c in (correction, still))
    assert with_tide[0, 0] > without[0, 0]


def test_a_term_that_the_table_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown covariance terms \\['tide'\\], expected"):
        Correction({"tide": (0.1,)}, (1.0,), OVERHEAD_MS)
