"""The correction by whole networks against plain conditioning."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from hwnas.latency_models.features import Floats, resources, shapes
from hwnas.latency_models.fitting.block_prior import BlockPrior, Rows
from hwnas.latency_models.fitting.covariance_terms import CALLS, TERMS, Field, Seen
from hwnas.latency_models.fitting.covariance_terms import WEIGHTS as WEIGHTS_FROM
from hwnas.latency_models.fitting.gaussian import matern52
from hwnas.latency_models.fitting.network_correction import Correction, fit_correction, posterior
from tests.support.synthetic import BLOCKS, WEIGHTS

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
