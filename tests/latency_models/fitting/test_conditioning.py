"""Linear-Gaussian causes against the textbook's formula, with few and with many observations."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.conditioning import condition, leave_one_out

SHAPES = [(7, 30), (6, 6), (40, 6)]
"""Observations and causes: the covariance of the smaller number is factorised."""


def problem(observations: int, causes: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return effects, prior, noise and observations; the noise spans four orders of magnitude."""
    rng = np.random.default_rng(observations)
    root = rng.standard_normal((causes, causes))
    noise = 10 ** rng.uniform(-5, -1, observations)
    effects = rng.standard_normal((observations, causes))
    return effects, root @ root.T + 0.01 * np.eye(causes), noise, rng.standard_normal(observations)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_posterior_is_that_of_conditioning(shape: tuple[int, int]) -> None:
    effects, prior, noise, seen = problem(*shape)
    posterior = condition(effects, prior, noise, seen)
    gain = prior @ effects.T @ np.linalg.inv(effects @ prior @ effects.T + np.diag(noise))
    np.testing.assert_allclose(posterior.mean, gain @ seen, rtol=1e-6, atol=1e-8)
    expected = prior - gain @ effects @ prior
    np.testing.assert_allclose(posterior.covariance, expected, rtol=1e-6, atol=1e-8)
    assert posterior.jitter == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_leave_one_out_equals_conditioning_on_the_others(shape: tuple[int, int]) -> None:
    effects, prior, noise, seen = given = problem(*shape)
    error, variance = leave_one_out(*given, condition(*given))
    for out in range(len(seen)):
        rest = np.delete(np.arange(len(seen)), out)
        others = condition(effects[rest], prior, noise[rest], seen[rest])
        assert error[out] == pytest.approx(seen[out] - effects[out] @ others.mean, rel=1e-6)
        expected = noise[out] + effects[out] @ others.covariance @ effects[out]
        assert variance[out] == pytest.approx(expected, rel=1e-6)


def test_causes_without_variance_stay_at_zero() -> None:
    effects, prior, noise, seen = problem(40, 6)
    prior[2], prior[:, 2] = 0.0, 0.0
    posterior = condition(effects, prior, noise, seen)
    assert 0 < posterior.jitter <= 1e-9
    assert abs(posterior.mean[2]) < 1e-4 and posterior.covariance[2, 2] < 1e-8
    rest = [0, 1, 3, 4, 5]
    others = condition(effects[:, rest], prior[np.ix_(rest, rest)], noise, seen)
    np.testing.assert_allclose(posterior.mean[rest], others.mean, rtol=1e-4, atol=1e-6)
