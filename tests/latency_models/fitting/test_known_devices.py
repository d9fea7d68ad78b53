"""Latency models of devices whose costs are known, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.covariance_terms import HALF_OVERHEAD_CALLS, PARAMS_KNEE
from hwnas.latency_models.fitting.fit import fit_model, score_predictions
from hwnas.latency_models.fitting.network_correction import COMMON_BIAS_STD
from hwnas.latency_models.model import HeldOut, LatencyModel
from hwnas.latency_models.observation import Observation
from tests.support.data.synthetic import BLOCKS, COSTS_MS, in_network, isolated, networks


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_an_outlying_network_is_named_and_the_others_are_still_predicted(factor: float) -> None:
    observed, fresh = networks(20, 0, 0.01), networks(30, 1)
    outlier = msgspec.structs.replace(observed[7], ms=factor * observed[7].ms)
    model = fitted([*isolated(noise=0.01), *observed[:7], outlier, *observed[8:]])
    assert model.correction is not None
    assert model.correction.outliers == (7,)
    errors = predicted_over_true(model, fresh) - 1
    assert np.abs(errors).max() < 0.05


def test_networks_that_agree_have_no_outlier() -> None:
    model = fitted([*isolated(noise=0.01), *networks(20, 0, 0.01)])
    assert model.correction is not None
    assert model.correction.outliers == ()


def test_intervals_are_never_made_narrower_by_calibration() -> None:
    for seed in range(4):
        model = fitted([*isolated(noise=0.005)[::2], *networks(8, seed, 0.001 * seed)])
        assert model.correction is not None
        assert model.correction.inflation >= 1


def test_intervals_are_made_wider_where_networks_miss_them() -> None:
    """Every fifth network is off by a tenth: too few to call the noise that large."""
    rng, seen = np.random.default_rng(0), networks(25, 0, 0.001)
    odd = [
        msgspec.structs.replace(item, ms=item.ms * (1 + 0.1 * (n % 5 == 0) * rng.choice((-1, 1))))
        for n, item in enumerate(seen)
    ]
    model = fitted([*isolated(noise=0.01), *odd])
    calm = fitted([*isolated(noise=0.01), *seen])
    fresh = [network.blocks for network in networks(20, 1)]
    assert (model.predict(fresh).std_ms > 1.5 * calm.predict(fresh).std_ms).all()


@pytest.mark.parametrize("count", [10, 20])
@pytest.mark.parametrize("blocks", [True, False])
def test_ninety_percent_intervals_hold_about_ninety_percent(blocks: bool, count: int) -> None:
    """Thirty devices on which each block costs 5 % more or less inside networks than alone."""
    scores: list[HeldOut] = []
    for seed in range(30):
        rng = np.random.default_rng(100 + seed)
        inside_ms = {
            key: ms * float(np.exp(0.05 * rng.standard_normal())) for key, ms in COSTS_MS.items()
        }
        measured = isolated(noise=0.01, seed=seed) if blocks else []
        model = fitted([*measured, *networks(count, seed, 0.02, inside_ms)])
        fresh = networks(60, 50 + seed, 0.02, inside_ms)
        predicted = model.predict([network.blocks for network in fresh])
        measured_ms = np.array([network.ms for network in fresh])
        scores.append(score_predictions(predicted, measured_ms))
    assert sum(score.networks for score in scores) >= 1500
    assert 0.85 <= np.mean([score.covered_90 for score in scores]) <= 0.98
    # measuring again differs by 2 %
    assert np.mean([score.rmspe for score in scores[:6]]) < (0.03 if blocks else 0.04)


def test_networks_without_blocks_make_a_model() -> None:
    model = fitted(networks(25, 0, 0.01))
    ratio = predicted_over_true(model, networks(50, 1))
    assert np.abs(ratio - 1).max() < 0.1
    assert np.median(np.abs(ratio - 1)) < 0.025


def test_more_networks_make_a_prediction_more_certain() -> None:
    fresh = [network.blocks for network in networks(20, 5)]
    few, many = (
        fitted([*isolated(noise=0.01), *networks(count, 0, 0.01)]).posterior_over(fresh[0])
        for count in (5, 40)
    )
    counts = np.ones(len(fresh[0]) + 1)
    assert counts @ many.covariance @ counts < counts @ few.covariance @ counts


@pytest.mark.parametrize(
    ("observed", "bias"),
    [
        (isolated(noise=0.01)[1:], COMMON_BIAS_STD["isolated"]),
        (isolated(noise=0.01), COMMON_BIAS_STD["less call"]),
        (in_network(), COMMON_BIAS_STD["in network"]),
    ],
)
def test_without_any_network_the_common_bias_is_in_the_spread(
    observed: list[Observation], bias: float
) -> None:
    model = fitted(observed)
    assert model.correction is None
    blocks = networks(1, 0)[0].blocks
    predicted = model.predict([blocks])
    share = 1 if model.null_ms is None else 1 - model.null_ms / predicted.mean_ms[0]
    spread = float(predicted.std_ms[0] / predicted.mean_ms[0])
    assert bias * share <= spread < bias + 0.03
    if observed[0].scope == "in_network":
        assert predicted.mean_ms[0] == pytest.approx(sum(COSTS_MS[b] for b in blocks))


def test_call_overhead_in_short_blocks_does_not_scale_long_ones() -> None:
    """It is learnt from networks of short blocks; blocks twenty times as long keep their time."""
    by_cost = sorted(BLOCKS, key=lambda block: COSTS_MS[block])
    short, long = by_cost[:-4], by_cost[-4:]
    null_ms = 0.003
    own = {block: COSTS_MS[block] * (20 if block in long else 1) for block in by_cost}
    call_ms = HALF_OVERHEAD_CALLS * null_ms
    costs = {key: ms * (1 - 0.3 * call_ms / (ms + call_ms)) for key, ms in own.items()}
    observed = [Observation("isolated", (), null_ms, 0.002)]
    observed += [Observation("isolated", (key,), ms + null_ms, 0.002) for key, ms in own.items()]
    rng = np.random.default_rng(0)
    for _ in range(20):
        blocks = tuple(short[int(n)] for n in rng.integers(len(short), size=5))
        ms = null_ms + sum(costs[block] for block in blocks)
        observed.append(Observation("network", blocks, ms, 0.002))
    fitted_ms = fitted(observed).blocks_ms(by_cost)
    errors = np.array([fitted_ms[block] / costs[block] - 1 for block in by_cost])
    assert np.abs(errors[-4:]).max() < 0.01
    assert np.sqrt((errors[:-4] ** 2).mean()) < 0.02


def test_blocks_slower_inside_networks_by_their_parameters_are_learnt() -> None:
    """5 % slower for each factor of e in the parameters; without the term the error is 1.8 %."""
    slower = {b: 1 + 0.05 * (np.log1p(b.params / PARAMS_KNEE) - 2) for b in BLOCKS}
    inside_ms = {key: float(ms * slower[key]) for key, ms in COSTS_MS.items()}
    heavy = [block for block in BLOCKS if block.params > 20_000]
    errors: list[float] = []
    for seed in range(3):
        seen = networks(15, seed, 0.003, inside_ms)
        fitted_ms = fitted([*isolated(noise=0.005, seed=seed), *seen]).blocks_ms(heavy)
        errors.append(float(np.mean([fitted_ms[b] / inside_ms[b] - 1 for b in heavy])))
    assert len(heavy) >= 10
    assert np.abs(errors).mean() < 0.012


def fitted(observed: Sequence[Observation]) -> LatencyModel:
    return fit_model("d", observed, source="a test", validate=False)


def predicted_over_true(model: LatencyModel, fresh: Sequence[Observation]) -> Floats:
    predicted = model.predict([network.blocks for network in fresh])
    return predicted.mean_ms / np.array([network.ms for network in fresh])
