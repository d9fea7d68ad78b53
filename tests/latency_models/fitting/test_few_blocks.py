"""A few isolated blocks, and networks of mostly untimed blocks."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from hwnas.latency_models.features import resources
from hwnas.latency_models.fitting import fit as module
from hwnas.latency_models.fitting.block_prior import Residuals, fit_nnls, fit_prior
from hwnas.latency_models.fitting.design_matrix import network_residuals, timed_blocks
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.observation import Observation
from tests.support.data.synthetic import (
    BLOCKS,
    CALL_MS,
    COSTS_MS,
    SCALE,
    WEIGHTS,
    isolated,
    networks,
)

DENSE = [block for block in BLOCKS if block.op != "mbconv"]
"""Blocks without a depthwise convolution."""
SOME = [item for item in isolated(noise=0.005) if not item.blocks or item.blocks[0] in DENSE[:5]]


def rmspe(observed: list[Observation]) -> float:
    model = fit_model("here", observed, source="test", validate=False)
    fresh = networks(40, seed=9)
    predicted_ms = model.predict([network.blocks for network in fresh]).mean_ms
    errors = predicted_ms / np.array([network.ms for network in fresh]) - 1
    return float(np.sqrt(np.mean(errors**2)))


def test_blocks_never_timed_are_learnt_from_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    observed = [*SOME, *networks(20, seed=1, noise=0.005)]
    error = rmspe(observed)
    assert error < 0.06
    monkeypatch.setattr(module, "network_residuals", lambda *_: None)
    assert rmspe(observed) > 2 * error  # by the isolated blocks only


def test_residuals_are_those_computed_by_hand() -> None:
    known = {item.blocks[0]: item.ms - CALL_MS for item in SOME if item.blocks}
    [network] = networks(1, seed=3)
    residuals = network_residuals([*SOME, network], timed_blocks(SOME))
    assert residuals is not None and residuals.regressors.shape == (1, len(WEIGHTS))
    rest = [block for block in network.blocks if block not in known]
    assert residuals.regressors[0] == pytest.approx(resources(rest).sum(axis=0))
    spent_ms = CALL_MS + sum(known.get(block, 0.0) for block in network.blocks)
    assert residuals.ms[0] == pytest.approx(network.ms - spent_ms)
    assert residuals.total_ms[0] == network.ms


def test_networks_of_timed_blocks_have_no_residuals() -> None:
    every, [network] = isolated(), networks(1, seed=3)
    assert network_residuals([*every, network], timed_blocks(every)) is None
    half = len(network.blocks) // 2 + 1
    first = network.blocks[:half]
    most = [item for item in every if not item.blocks or item.blocks[0] in first]
    assert network_residuals([*most, network], timed_blocks(most)) is None
    assert network_residuals(every[:9], timed_blocks(every[:9])) is None


def test_one_odd_network_among_many_does_not_change_the_prior() -> None:
    every, many = isolated(noise=0.005), networks(20, seed=1, noise=0.005)
    other = tuple(
        msgspec.structs.replace(block, in_channels=24, out_channels=24, in_size=28)
        for block in DENSE[1:]
        if (block.in_channels, block.out_channels) == (16, 16)
    )
    odd = Observation("network", 6 * other, 3.0, 0.01)
    assert other and not set(other) & {item.blocks[0] for item in every if item.blocks}
    assert network_residuals([*every, *many, odd], timed_blocks(every)) is None
    priors = [
        fit_model("here", observed, source="test", validate=False).prior
        for observed in ([*every, *many], [*every, *many, odd])
    ]
    assert priors[0] == priors[1]
    few = network_residuals([*SOME, *many, odd], timed_blocks(SOME))
    assert few is not None and len(few.ms) == len(many) + 1


def test_weights_are_fitted_to_blocks_and_residuals_together() -> None:
    timed = timed_blocks(
        [Observation("isolated", (block,), COSTS_MS[block] / SCALE) for block in DENSE]
    )
    rows = [block for network in networks(30, seed=2) for block in network.blocks]
    deep = np.array([resources(rows[place : place + 8]).sum(axis=0) for place in range(0, 200, 8)])
    ms = deep @ WEIGHTS
    prior = fit_prior(timed, resources(timed.blocks), Residuals(deep, ms, ms))
    assert np.array(prior.weights) @ deep.T == pytest.approx(ms, rel=0.2)
    without = np.array(fit_prior(timed, resources(timed.blocks)).weights) @ deep.T
    assert np.abs(without / ms - 1).mean() > 2 * np.abs(prior.weights @ deep.T / ms - 1).mean()


def test_a_larger_unit_lowers_the_weight_of_a_row() -> None:
    regressors, ms = np.array([[1.0], [1.0]]), np.array([1.0, 2.0])
    assert fit_nnls(regressors, ms, np.array([1.0, 100.0]))[0] == pytest.approx(1.0, abs=0.01)
    assert fit_nnls(regressors, ms, np.array([100.0, 1.0]))[0] == pytest.approx(2.0, abs=0.01)
    assert fit_nnls(regressors, ms) == pytest.approx(fit_nnls(regressors, ms, ms))
