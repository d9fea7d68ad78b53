"""The correction by whole networks against plain conditioning and against known devices."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hwnas.latency_models.correction import (
    BIAS,
    Correction,
    fit_correction,
    posterior,
)
from hwnas.latency_models.features import Floats, resources, shapes
from hwnas.latency_models.fit import blocks_of, fit_model, score
from hwnas.latency_models.gaussian import matern52
from hwnas.latency_models.model import HeldOut, LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.prior import BlockPrior, Rows
from hwnas.latency_models.terms import CALLS, TERMS, Field, Seen
from hwnas.latency_models.terms import WEIGHTS as WEIGHTS_FROM
from tests.synthetic import BLOCKS, COSTS_MS, WEIGHTS, alone, inside, networks

SCALES = (0.1, 0.07, 0.09, 0.05, 0.8, 0.02, 0.03, 0.12, 0.06, 0.04, 0.2, 0.05)
NULL_MS, OVERHEAD_MS = 0.03, 0.02


def small_field() -> Field:
    """Four blocks whose prior rows are uncertain together."""
    blocks = [BLOCKS[0], BLOCKS[5], BLOCKS[20], BLOCKS[33]]
    root = 0.05 * np.random.default_rng(0).standard_normal((4, 4))
    found = Rows(np.array([0.01, 0.05, 0.02, 0.04]), root @ root.T)
    prior = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 0.7))
    return Field(blocks, found, resources(blocks), prior, NULL_MS)


def small_seen() -> Seen:
    """Four networks of two sessions and three processes, and two blocks of a profiler."""
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
    return Seen(counts, ms, error, network, [0, 0, 0, 2, 2, 2], [1, 1, 0, 0, 0, 1])


def conditioned(
    seen: Seen, field: Field, scales: Sequence[float], widened: Sequence[int] = ()
) -> tuple[Floats, Floats]:
    """Mean and covariance of (costs, overhead), from independent causes written out one by one."""
    s_0, s_w, s_f, s_i, s_o, s_n, s_d, s_p, s_pn, s_pr, s_c, s_k = scales
    count, blocks, sessions = len(seen.ms), len(field.blocks), sorted(set(seen.session))
    share = field.amounts * np.array(field.prior.weights)
    share /= share.sum(axis=1, keepdims=True)
    coordinates, groups = shapes(field.blocks)
    shape, _ = matern52(coordinates, coordinates, field.prior.shape_lengths, groups)
    ms = field.rows.ms
    own, eye = np.diag(ms), np.eye(blocks)
    call_ms = CALLS * field.null_ms
    brief = ms * call_ms / (ms + call_ms)
    spent = (seen.counts * seen.network[:, None]).sum(axis=0) * ms
    params = np.array([block.params for block in field.blocks])
    heavy = np.log(1 + params / WEIGHTS_FROM)
    heavy = ms * (heavy - heavy @ spent / spent.sum())
    ran = list(zip(seen.session, seen.process, strict=True))
    processes = sorted(set(one for one in ran if one[1] > 0))
    of_process = np.array([[float(one == p) for p in processes] for one in ran])
    of_session = np.array([[float(one == s) for s in sessions] for one in seen.session])
    total, network = seen.counts @ ms, seen.network
    # of each cause: variance, effect on the costs, effect on observations beside that of the costs
    nothing = np.zeros((count, blocks))
    causes: list[tuple[Floats, Floats, Floats]] = [
        (field.rows.covariance, own, nothing),
        (s_0**2 * np.eye(1), ms[:, None], nothing[:, :1]),
        (s_w**2 * np.eye(share.shape[1]), own @ share, np.zeros((count, share.shape[1]))),
        (s_f**2 * shape, own, nothing),
        (s_i**2 * eye, own, nothing),
        (s_c**2 * np.eye(1), brief[:, None], nothing[:, :1]),
        (s_k**2 * np.eye(1), heavy[:, None], nothing[:, :1]),
    ]
    state, effect, variance = [], [], []
    for spread, on_costs, beside in causes:
        state.append(np.vstack([on_costs, np.zeros((1, on_costs.shape[1]))]))
        effect.append(seen.counts @ on_costs + beside)
        variance.append(spread)
    # the overhead; the sessions, of which the last is part of today's costs; the profiler; noise
    last = np.zeros((blocks + 1, len(sessions)))
    last[:-1, -1] = ms
    overhead = np.zeros((blocks + 1, 1))
    overhead[-1] = 1
    noise = np.where(network > 0, s_n, s_pn) ** 2 + seen.error**2
    noise = noise * seen.ms**2
    expected = total + network * field.null_ms
    for place in widened:
        noise[place] += max((seen.ms[place] - expected[place]) ** 2, (0.1 * seen.ms[place]) ** 2)
    state += [overhead, last, np.zeros((blocks + 1, 1 + count + len(processes)))]
    effect += [
        network[:, None],
        (total * network)[:, None] * of_session,
        np.column_stack(
            [total * (1 - network), np.eye(count), (total * network)[:, None] * of_process]
        ),
    ]
    variance += [
        np.array([[(s_o * OVERHEAD_MS) ** 2]]),
        s_d**2 * np.eye(len(sessions)),
        np.diag([s_p**2, *noise, *([s_pr**2] * len(processes))]),
    ]
    size = sum(map(len, variance))
    prior, start = np.zeros((size, size)), 0
    for one in variance:
        prior[start : start + len(one), start : start + len(one)] = one
        start += len(one)
    to_state, to_seen = np.hstack(state), np.hstack(effect)
    gain = to_state @ prior @ to_seen.T @ np.linalg.inv(to_seen @ prior @ to_seen.T)
    mean = np.append(ms, field.null_ms) + gain @ (seen.ms - expected)
    return mean, (to_state - gain @ to_seen) @ prior @ to_state.T


@pytest.mark.parametrize("wild", [(), (1,), (2, 3)])
def test_the_posterior_is_that_of_conditioning_the_joint_gaussian(wild: tuple[int, ...]) -> None:
    seen, field = small_seen(), small_field()
    correction = Correction((SCALES,), (1.0,), OVERHEAD_MS, wild=wild)
    found = posterior(correction, seen, field)
    mean, covariance = conditioned(seen, field, SCALES, wild)
    np.testing.assert_allclose([*found.ms, found.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6, atol=1e-12)
    assert found.noise == pytest.approx(np.hypot(0.02, 0.04))
    assert np.abs(found.ms / field.rows.ms - 1).max() > 0.02


def test_one_session_has_no_factor_of_its_own() -> None:
    seen, field = small_seen()._replace(session=[0] * 6), small_field()
    for s_d in (0.03, 0.3):
        scales = (*SCALES[:6], s_d, *SCALES[7:])
        found = posterior(Correction((scales,), (1.0,), OVERHEAD_MS), seen, field)
        mean, covariance = conditioned(seen, field, (*SCALES[:6], 0.0, *SCALES[7:]))
        np.testing.assert_allclose([*found.ms, found.overhead_ms], mean, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6, atol=1e-12)


def test_several_draws_are_summed_up_by_mean_and_covariance_of_their_mixture() -> None:
    seen, field = small_seen(), small_field()
    draws = (SCALES, (0.3, 0.01, 0.2, 0.01, 0.3, 0.01, 0.1, 0.2, 0.1, 0.01, 0.1, 0.02))
    found = posterior(Correction(draws, (0.3, 0.7), OVERHEAD_MS, 1.5), seen, field)
    each = [conditioned(seen, field, scales) for scales in draws]
    mean = 0.3 * each[0][0] + 0.7 * each[1][0]
    covariance = sum(
        weight * (one[1] + np.outer(one[0] - mean, one[0] - mean))
        for weight, one in zip((0.3, 0.7), each, strict=True)
    )
    np.testing.assert_allclose([*found.ms, found.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.covariance, 1.5 * covariance, rtol=1e-6, atol=1e-12)
    squares = 0.3 * (0.02**2 + 0.04**2) + 0.7 * (0.01**2 + 0.01**2)
    assert found.noise == pytest.approx(squares**0.5)


def test_processes_that_are_not_known_share_nothing() -> None:
    seen, field = small_seen()._replace(process=[0] * 6), small_field()
    found = posterior(Correction((SCALES,), (1.0,), OVERHEAD_MS), seen, field)
    mean, covariance = conditioned(seen, field, SCALES)
    np.testing.assert_allclose([*found.ms, found.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6, atol=1e-12)
    assert found.noise == SCALES[5]


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_rows_stay_positive_whatever_the_networks_say(factor: float) -> None:
    seen, field = small_seen(), small_field()
    seen = seen._replace(ms=factor * seen.ms)
    found = posterior(fit_correction(seen, field), seen, field)
    assert found.ms.min() > 0
    assert np.isfinite(found.covariance).all()


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_a_wild_network_is_told_and_the_others_are_still_predicted(factor: float) -> None:
    observed, fresh = networks(20, 0, 0.01), networks(30, 1)
    wild = msgspec.structs.replace(observed[7], ms=factor * observed[7].ms)
    model = fitted([*alone(noise=0.01), *observed[:7], wild, *observed[8:]])
    assert model.correction is not None
    assert model.correction.wild == (7,)
    errors = predicted_over_true(model, fresh) - 1
    assert np.abs(errors).max() < 0.05


def test_a_wild_network_counts_for_little_but_counts() -> None:
    seen, field = small_seen(), small_field()
    far = seen._replace(ms=seen.ms * np.array([1, 1.5, 1, 1, 1, 1]))
    kept = [0, 2, 3, 4, 5]
    parts = far.counts[kept], far.ms[kept], far.error[kept], far.network[kept]
    rest = Seen(*parts, session=[0, 0, 2, 2, 2], process=[1, 0, 0, 0, 1])
    trusted, told = (Correction((SCALES,), (1.0,), OVERHEAD_MS, wild=w) for w in ((), (1,)))
    dropped_ms, told_ms, trusted_ms = (
        float(posterior(*asked, field).ms @ far.counts[1])
        for asked in ((trusted, rest), (told, far), (trusted, far))
    )
    assert dropped_ms < told_ms < dropped_ms + 0.3 * (trusted_ms - dropped_ms)


def test_networks_that_agree_are_none_of_them_wild() -> None:
    model = fitted([*alone(noise=0.01), *networks(20, 0, 0.01)])
    assert model.correction is not None
    assert model.correction.wild == ()


def test_intervals_are_never_made_narrower_by_calibration() -> None:
    for seed in range(4):
        model = fitted([*alone(noise=0.005)[::2], *networks(8, seed, 0.001 * seed)])
        assert model.correction is not None
        assert model.correction.inflation >= 1


def test_intervals_are_made_wider_where_networks_miss_them() -> None:
    """Every fifth network is off by a tenth: too few to call the noise that large."""
    rng, seen = np.random.default_rng(0), networks(25, 0, 0.001)
    odd = [
        msgspec.structs.replace(one, ms=one.ms * (1 + 0.1 * (n % 5 == 0) * rng.choice((-1, 1))))
        for n, one in enumerate(seen)
    ]
    model = fitted([*alone(noise=0.01), *odd])
    calm = fitted([*alone(noise=0.01), *seen])
    fresh = [blocks_of(one) for one in networks(20, 1)]
    assert (model.predict(fresh).std_ms > 1.5 * calm.predict(fresh).std_ms).all()


@pytest.mark.parametrize("count", [10, 20])
@pytest.mark.parametrize("blocks", [True, False])
def test_ninety_percent_intervals_hold_about_ninety_percent(blocks: bool, count: int) -> None:
    """Thirty devices on which each block costs 5 % more or less inside networks than alone."""
    found: list[HeldOut] = []
    for seed in range(30):
        rng = np.random.default_rng(100 + seed)
        inside_ms = {
            key: ms * float(np.exp(0.05 * rng.standard_normal())) for key, ms in COSTS_MS.items()
        }
        measured = alone(noise=0.01, seed=seed) if blocks else []
        model = fitted([*measured, *networks(count, seed, 0.02, inside_ms)])
        fresh = networks(60, 50 + seed, 0.02, inside_ms)
        predicted = model.predict([blocks_of(one) for one in fresh])
        found.append(score(predicted, np.array([one.ms for one in fresh])))
    assert sum(one.networks for one in found) >= 1500
    assert 0.85 <= np.mean([one.covered_90 for one in found]) <= 0.98
    # measuring again differs by 2 %
    assert np.mean([one.rmspe for one in found[:6]]) < (0.03 if blocks else 0.04)


def test_networks_alone_make_a_model() -> None:
    model = fitted(networks(25, 0, 0.01))
    ratio = predicted_over_true(model, networks(50, 1))
    assert np.abs(ratio - 1).max() < 0.1
    assert np.median(np.abs(ratio - 1)) < 0.025


def test_more_networks_make_a_prediction_surer() -> None:
    fresh = [blocks_of(one) for one in networks(20, 5)]
    few, many = (
        fitted([*alone(noise=0.01), *networks(count, 0, 0.01)]).posterior_over(fresh[0])
        for count in (5, 40)
    )
    counts = np.ones(len(fresh[0]) + 1)
    assert counts @ many.covariance @ counts < counts @ few.covariance @ counts


@pytest.mark.parametrize(
    ("observed", "bias"),
    [
        (alone(noise=0.01)[1:], BIAS["alone"]),
        (alone(noise=0.01), BIAS["null"]),
        (inside(), BIAS["inside"]),
    ],
)
def test_without_any_network_the_common_bias_is_in_the_spread(
    observed: list[Observation], bias: float
) -> None:
    model = fitted(observed)
    assert model.correction is None
    asked = blocks_of(networks(1, 0)[0])
    predicted = model.predict([asked])
    share = 1 if model.null_ms is None else 1 - model.null_ms / predicted.mean_ms[0]
    spread = float(predicted.std_ms[0] / predicted.mean_ms[0])
    assert bias * share <= spread < bias + 0.03
    if observed[0].what == "inside":
        assert predicted.mean_ms[0] == pytest.approx(sum(COSTS_MS[b.key] for b in asked))


def test_what_a_call_leaves_in_short_blocks_is_no_factor_on_long_ones() -> None:
    """Networks of short blocks tell it; blocks that take twenty times as long keep their time."""
    by_cost = sorted(BLOCKS, key=lambda block: COSTS_MS[block.key])
    short, long = by_cost[:-4], by_cost[-4:]
    null_ms = 0.003
    own = {block.key: COSTS_MS[block.key] * (20 if block in long else 1) for block in by_cost}
    call_ms = CALLS * null_ms
    costs = {key: ms * (1 - 0.3 * call_ms / (ms + call_ms)) for key, ms in own.items()}
    observed = [Observation("alone", (), null_ms, 0.002)]
    observed += [Observation("alone", (key,), ms + null_ms, 0.002) for key, ms in own.items()]
    rng = np.random.default_rng(0)
    for _ in range(20):
        keys = tuple(short[int(n)].key for n in rng.integers(len(short), size=5))
        ms = null_ms + sum(costs[key] for key in keys)
        observed.append(Observation("network", keys, ms, 0.002))
    found = fitted(observed).blocks_ms(by_cost)
    errors = np.array([found[block.key] / costs[block.key] - 1 for block in by_cost])
    assert np.abs(errors[-4:]).max() < 0.01
    assert np.sqrt((errors[:-4] ** 2).mean()) < 0.02


def test_blocks_whose_weights_stay_in_the_caches_alone_are_learnt_as_such() -> None:
    """Alone they are too fast by their weights, 5 % for each factor e; without the term 1.8 %."""
    slower = {b.key: 1 + 0.05 * (np.log1p(b.params / WEIGHTS_FROM) - 2) for b in BLOCKS}
    inside_ms = {key: float(ms * slower[key]) for key, ms in COSTS_MS.items()}
    heavy = [block for block in BLOCKS if block.params > 20_000]
    errors: list[float] = []
    for seed in range(3):
        seen = networks(15, seed, 0.003, inside_ms)
        found = fitted([*alone(noise=0.005, seed=seed), *seen]).blocks_ms(heavy)
        errors.append(float(np.mean([found[b.key] / inside_ms[b.key] - 1 for b in heavy])))
    assert len(heavy) >= 10
    assert np.abs(errors).mean() < 0.012


@pytest.mark.parametrize("terms", [10, 11])
def test_a_model_of_fewer_terms_is_read_as_it_was(terms: int) -> None:
    seen, field = small_seen(), small_field()
    older = Correction((SCALES[:terms],), (1.0,), OVERHEAD_MS)
    found = posterior(older, seen, field)
    mean, covariance = conditioned(seen, field, (*SCALES[:terms], *([0.0] * (12 - terms))))
    np.testing.assert_allclose([*found.ms, found.overhead_ms], mean, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-6, atol=1e-12)


def test_every_scale_has_its_name_once() -> None:
    names = [term.name for term in TERMS]
    assert len(names) == len(set(names)) == len(SCALES)


def fitted(observed: Sequence[Observation]) -> LatencyModel:
    return fit_model("d", observed, source="a test", validate=False)


def predicted_over_true(model: LatencyModel, fresh: Sequence[Observation]) -> Floats:
    predicted = model.predict([blocks_of(one) for one in fresh])
    return predicted.mean_ms / np.array([one.ms for one in fresh])
