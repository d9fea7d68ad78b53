"""Gaussian process regression against definitions, differences and plain conditioning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp, sqrt
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from hwnas.latency_models.fitting import block_prior as prior_module
from hwnas.latency_models.fitting import network_correction as correction_module
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.fitting.gaussian import (
    Covariance,
    Floats,
    Prior,
    ScaleFit,
    _laplace,
    factorise,
    fit_scales,
    leave_one_out,
    matern52,
    negative_log_posterior,
    solve,
)
from tests.support.data.synthetic import in_network, isolated, networks


def spd(size: int, seed: int = 0) -> Floats:
    """A random symmetric positive definite matrix."""
    root = np.random.default_rng(seed).standard_normal((size, size))
    return root @ root.T + 0.1 * np.eye(size)


def differences(objective: Callable[[Floats], float], at: Floats, step: float = 1e-5) -> Floats:
    shifts = step * np.eye(len(at))
    return np.array([(objective(at + s) - objective(at - s)) / (2 * step) for s in shifts])


def gradient_error(residual: Floats, covariance: Covariance, priors: list[Prior]) -> float:
    """Return the largest error of the gradient of `fit_scales`' objective, of three places.

    It is relative to the largest component of the gradient by finite differences.
    """
    medians = np.log([prior.median for prior in priors])
    widths = np.array([prior.log_std for prior in priors])

    def objective(logs: Floats) -> tuple[float, Floats]:
        return negative_log_posterior(logs, residual, covariance, medians, widths)

    rng, errors = np.random.default_rng(1), list[float]()
    for _ in range(3):
        at = medians + 0.7 * rng.standard_normal(len(medians))
        expected = differences(lambda logs: objective(logs)[0], at)
        errors.append(np.abs(objective(at)[1] - expected).max() / np.abs(expected).max())
    return max(errors)


def test_the_gradient_of_the_marginal_likelihood_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(0)
    points, groups = rng.standard_normal((12, 4)), np.array([0, 0, 1, 1])
    gram, noise = spd(12), np.full(12, 0.05)

    def covariance(hypers: Floats) -> tuple[Floats, list[Floats]]:
        shape, slopes = matern52(points, points, hypers[2:], groups)
        terms = [hypers[0] ** 2 * gram, hypers[1] ** 2 * shape]
        longer = [hypers[1] ** 2 * slope for slope in slopes]
        return np.sum(terms, axis=0) + np.diag(noise), [*(2 * term for term in terms), *longer]

    priors = [Prior(0.5), Prior(1.0), Prior(1.5), Prior(0.8, 0.4)]
    assert gradient_error(rng.standard_normal(12), covariance, priors) < 1e-5


@pytest.mark.parametrize("module", [prior_module, correction_module])
def test_both_stages_give_the_fit_the_gradient_of_their_covariance(
    module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Any, ...]] = []

    def recorded(*given: Any) -> ScaleFit:
        calls.append(given)
        return fit_scales(*given)

    monkeypatch.setattr(module, "fit_scales", recorded)
    profiled = in_network()[::7]
    observed = [*isolated(noise=0.01)[:50], *profiled, *networks(7, 0, 0.02)]
    fit_model("d", observed, source="s", validate=False)
    residual, covariance, priors, *_ = calls[0]
    assert gradient_error(residual, covariance, list(priors)) < 1e-5


def sum_of_terms(grams: Sequence[Floats], noise: Floats) -> Covariance:
    """Return the covariance ``sum_j s_j^2 G_j + diag(noise)``."""

    def covariance(scales: Floats) -> tuple[Floats, list[Floats]]:
        parts = [scale**2 * gram for scale, gram in zip(scales, grams, strict=True)]
        return np.sum(parts, axis=0) + np.diag(noise), [2 * part for part in parts]

    return covariance


def test_the_objective_of_the_fit_is_the_marginal_likelihood_and_the_priors() -> None:
    gram, residual = spd(6), np.random.default_rng(2).standard_normal(6)
    covariance = sum_of_terms([gram], np.full(6, 0.1))
    medians, widths = np.log([0.5]), np.array([0.3])

    def value(scale: float) -> float:
        logs = np.log([scale])
        return negative_log_posterior(logs, residual, covariance, medians, widths)[0]

    def expected(scale: float) -> float:
        log_prior = -0.5 * (np.log(scale / 0.5) / 0.3) ** 2
        normal: Any = multivariate_normal
        return -normal(np.zeros(6), scale**2 * gram + 0.1 * np.eye(6)).logpdf(residual) - log_prior

    assert value(1.3) - value(0.4) == pytest.approx(expected(1.3) - expected(0.4), abs=1e-9)


def test_leave_one_out_equals_fits_without_each_observation() -> None:
    covariance, residual = spd(8), np.random.default_rng(4).standard_normal(8)
    error, variance = leave_one_out(residual, covariance)
    for out in range(8):
        rest = np.delete(np.arange(8), out)
        gain = covariance[out, rest] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
        assert error[out] == pytest.approx(residual[out] - gain @ residual[rest], abs=1e-9)
        expected = covariance[out, out] - gain @ covariance[rest, out]
        assert variance[out] == pytest.approx(expected, abs=1e-9)


def test_a_factor_gives_the_covariance_back_without_jitter() -> None:
    covariance = spd(6)
    factor, jitter = factorise(covariance)
    assert jitter == 0
    np.testing.assert_allclose(factor @ factor.T, covariance, atol=1e-12)
    np.testing.assert_allclose(covariance @ solve(factor, np.eye(6)), np.eye(6), atol=1e-9)


def test_a_singular_covariance_returns_the_jitter_it_needed() -> None:
    row = np.array([[1.0, 2.0, 3.0]])
    singular = 4.0 * row.T @ row - 1e-9 * np.eye(3)
    factor, jitter = factorise(singular)
    scale = float(np.trace(singular)) / 3
    assert 1e-10 <= jitter <= 1e-6
    np.testing.assert_allclose(factor @ factor.T, singular + jitter * scale * np.eye(3), atol=1e-9)


@pytest.mark.parametrize("place", [(0, 0), (2, 1), (1, 2), (4, 4)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_covariance_that_is_not_a_number_is_never_factorised(
    place: tuple[int, int], value: float
) -> None:
    covariance = spd(5)
    covariance[place] = value
    with pytest.raises(np.linalg.LinAlgError):
        factorise(covariance)


def test_an_indefinite_matrix_is_not_factorised() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        factorise(np.diag([1.0, -1.0]))


def test_the_fit_avoids_covariances_that_cannot_be_factorised() -> None:
    def broken(scales: Floats) -> tuple[Floats, list[Floats]]:
        return -np.eye(3), [np.zeros((3, 3))]

    value, slope = negative_log_posterior(np.zeros(1), np.ones(3), broken, np.zeros(1), np.ones(1))
    assert value >= 1e20
    assert slope.tolist() == [0.0]


def test_draws_around_a_quadratic_optimum_have_its_spread_and_equal_weights() -> None:
    curvature = np.array([[4.0, 1.5, 0.0], [1.5, 3.0, -0.5], [0.0, -0.5, 9.0]])
    best = np.array([0.3, -1.0, 2.0])

    def objective(logs: Floats) -> tuple[float, Floats]:
        slope = curvature @ (logs - best)
        return 7.0 + 0.5 * float((logs - best) @ slope), slope

    sampled, weights = _laplace(best, objective, np.ones(3), 20_000)
    np.testing.assert_allclose(weights, 1 / 20_000, rtol=1e-6)
    np.testing.assert_allclose(sampled.mean(axis=0), best, atol=0.02)
    np.testing.assert_allclose(np.cov(sampled.T), np.linalg.inv(curvature), atol=0.01)


def test_no_posterior_is_less_certain_than_its_prior() -> None:
    flat, width = np.array([[1e-6]]), np.array([0.5])
    sampled, _ = _laplace(np.zeros(1), lambda logs: (0.0, flat[0] * logs), width, draws=5_000)
    assert sampled.std() == pytest.approx(0.5, rel=0.05)


def test_uninformative_observations_leave_the_scales_at_their_priors() -> None:
    priors = [Prior(0.2, 0.5), Prior(3.0, 0.5)]
    nothing = [np.zeros((4, 4))] * 2
    fit = fit_scales(np.zeros(4), lambda scales: (np.eye(4), nothing), priors, draws=4_000)
    np.testing.assert_allclose(fit.best, [0.2, 3.0], rtol=1e-4)
    np.testing.assert_allclose(np.log(fit.draws).std(axis=0), 0.5, rtol=0.06)
    assert fit.weights.sum() == pytest.approx(1.0)


def test_the_scales_of_synthetic_data_are_recovered() -> None:
    rng = np.random.default_rng(5)
    features = rng.standard_normal((300, 40))
    true = np.array([0.5, 0.1])
    residual = true[0] * features @ rng.standard_normal(40) + true[1] * rng.standard_normal(300)
    covariance = sum_of_terms([features @ features.T, np.eye(300)], np.full(300, 1e-6))
    fit = fit_scales(residual, covariance, [Prior(0.1, 2.0), Prior(0.5, 2.0)])
    np.testing.assert_allclose(fit.best, true, rtol=0.2)


def test_matern_five_halves_is_its_formula_with_a_length_for_each_group() -> None:
    x, y = np.array([[0.0, 0.0, 0.0]]), np.array([[3.0, 4.0, 1.0]])
    kernel, _ = matern52(x, y, np.array([5.0, 1.0]), np.array([0, 0, 1]))
    distance = sqrt(5 * (25 / 25 + 1 / 1))
    by_hand = (1 + distance + distance**2 / 3) * exp(-distance)
    assert kernel[0, 0] == pytest.approx(by_hand, abs=1e-12)
    unit, _ = matern52(x[:, :1], np.array([[1.0]]), np.array([1.0]), np.array([0]))
    assert unit[0, 0] == pytest.approx(0.5239941088318203, abs=1e-12)


def test_matern_of_a_point_with_itself_is_one() -> None:
    points = 20 * np.random.default_rng(6).standard_normal((5, 3))
    kernel, _ = matern52(points, points, np.array([0.5]), np.zeros(3, dtype=np.intp))
    np.testing.assert_allclose(np.diag(kernel), 1.0, atol=1e-9)
