"""Fitting: refused observations, later sessions, and held-out errors."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError
from hwnas.latency_models.fitting import fit as module
from hwnas.latency_models.fitting.design_matrix import timed_blocks
from hwnas.latency_models.fitting.fit import (
    check_observations,
    cross_validate,
    fit_model,
    score_predictions,
    update_model,
)
from hwnas.latency_models.model import LatencyModel, Predictions
from hwnas.latency_models.observation import Observation
from tests.support.data.synthetic import BLOCKS, CALL_MS, COSTS_MS, in_network, isolated, networks

DEEP = BLOCKS[5]


def fitted(observed: Sequence[Observation], validate: bool = False) -> LatencyModel:
    return fit_model("phone", observed, source="a test", made="2026", validate=validate)


def scaled(item: Observation, factor: float) -> Observation:
    return msgspec.structs.replace(item, ms=factor * item.ms)


def errors(model: LatencyModel, fresh: Sequence[Observation]) -> np.ndarray:
    predicted = model.predict([network.blocks for network in fresh]).mean_ms
    return predicted / np.array([network.ms for network in fresh]) - 1


def test_no_observations_are_refused() -> None:
    with pytest.raises(HwnasError, match="there are no observations to fit: nothing was measured"):
        fitted([])


@pytest.mark.parametrize(
    "observed", [isolated()[:1], isolated()[:2], in_network()[:1], networks(1, 0), networks(2, 0)]
)
def test_too_few_observations_are_refused(observed: list[Observation]) -> None:
    blocks = sum(item.scope != "network" and bool(item.blocks) for item in observed)
    nets = sum(item.scope == "network" for item in observed)
    message = (
        f"{blocks} timed blocks and {nets} different networks are too few for a model, expected"
    )
    with pytest.raises(HwnasError, match=message):
        fitted(observed)


@pytest.mark.parametrize("observed", [isolated()[1:3], in_network()[:2], networks(3, 0)])
def test_the_minimum_of_observations_makes_a_model(observed: list[Observation]) -> None:
    model = fitted(observed)
    assert min(model.rows_ms.values()) > 0
    predicted = model.predict([network.blocks for network in networks(5, 9)])
    assert np.isfinite(predicted.std_ms).all() and (predicted.mean_ms > 0).all()


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_an_impossible_latency_is_refused(ms: float) -> None:
    cases = {
        DEEP.key: Observation("isolated", (DEEP,), ms),
        "a network": Observation("network", (DEEP, DEEP), ms),
        "the null model": Observation("isolated", (), ms),
    }
    for name, wrong in cases.items():
        with pytest.raises(HwnasError) as caught:
            fitted([*isolated(), wrong])
        assert str(caught.value) == f"{name} has the latency {ms} ms, expected a positive number"


@pytest.mark.parametrize("error", [-0.01, float("nan"), float("inf")])
def test_an_impossible_standard_error_is_refused(error: float) -> None:
    wrong = Observation("isolated", (DEEP,), 1.0, error)
    with pytest.raises(HwnasError, match=f"{DEEP.key} has the standard error {error}, expected"):
        fitted([*isolated(), wrong])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            Observation("isolated", (DEEP, DEEP), 1.0),
            "an observation 'isolated' has 2 blocks, expected",
        ),
        (Observation("in_network", (DEEP, DEEP), 1.0), "'in_network' has 2 blocks, expected one"),
        (Observation("in_network", (), 1.0), "'in_network' has 0 blocks, expected one"),
    ],
)
def test_an_observation_of_the_wrong_number_of_blocks_is_refused(
    wrong: Observation, message: str
) -> None:
    with pytest.raises(HwnasError, match=message):
        fitted([*isolated(), *networks(3, 0), wrong])


@pytest.mark.parametrize("factor", [1e3, 1e-3])
def test_networks_in_microseconds_against_blocks_in_milliseconds_are_refused(
    factor: float,
) -> None:
    wrong = [scaled(network, factor) for network in networks(8, 0)]
    message = "one of the two is not in milliseconds"
    with pytest.raises(HwnasError, match=message):
        fitted([*isolated(), *wrong])
    check_observations([*isolated(), *networks(8, 0)])


def test_repeats_of_one_network_are_too_few() -> None:
    same = networks(1, 0) * 8
    with pytest.raises(HwnasError, match="0 timed blocks and 1 different networks are too few"):
        fitted(same)
    check_observations([*isolated(), *same])


def test_different_networks_of_equal_latency_are_refused() -> None:
    constant = [msgspec.structs.replace(network, ms=2.5) for network in networks(8, 0)]
    message = r"all 8 networks take exactly 2\.5 ms although their blocks differ"
    for observed in (constant, [*isolated(), *constant]):
        with pytest.raises(HwnasError, match=message):
            fitted(observed)


def test_all_measurements_of_a_network_are_held_out_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[set[tuple[Block, ...]]] = []

    def fit(device: str, rest: list[Observation], **settings: object) -> LatencyModel:
        model = fitted(rest)
        seen.append({network.blocks for network in model.networks})
        return model

    monkeypatch.setattr(module, "fit_model", fit)
    blocks, observed = isolated(noise=0.01)[::4], networks(7, 0, 0.01)
    again = [scaled(network, 1.01) for network in observed]
    held_out = cross_validate("phone", [*blocks, *observed, *again[:3]])
    assert held_out is not None and held_out.networks == 10
    assert [7 - len(fold) for fold in seen] == [2, 1, 1, 1, 1, 1]
    assert cross_validate("phone", [*blocks, *observed[:5], *again[:5]]) is None


def test_repeated_timings_of_a_block_are_averaged_by_their_precision() -> None:
    twice = [
        Observation("in_network", (DEEP,), 1.0, 0.01),
        Observation("in_network", (DEEP,), 2.0, 0.02),
    ]
    timed = timed_blocks([*twice, Observation("in_network", (BLOCKS[6],), 3.0, 0.05)])
    assert timed.blocks == [DEEP, BLOCKS[6]]
    assert timed.ms.tolist() == pytest.approx([(1.0 / 0.01**2 + 2.0 / 0.02**2) / 12_500, 3.0])
    assert timed.relative_error.tolist() == pytest.approx([12_500**-0.5, 0.05])


def test_the_call_overhead_is_subtracted_from_isolated_blocks() -> None:
    observed = [
        Observation("isolated", (), 0.25, 0.0),
        Observation("isolated", (DEEP,), 1.25, 0.01),
        # as fast as a call: a tenth of its time remains, with a large error
        Observation("isolated", (BLOCKS[6],), 0.25, 0.01),
    ]
    timed = timed_blocks(observed)
    assert timed.ms.tolist() == pytest.approx([1.0, 0.025])
    assert timed.relative_error.tolist() == pytest.approx([0.0125, 0.1])


def test_a_table_alone_keeps_its_rows() -> None:
    model = fitted(in_network())
    assert model.rows_ms == pytest.approx(COSTS_MS, rel=1e-12)
    assert model.overhead_ms == 0.0
    assert fitted(isolated()).overhead_ms == CALL_MS
    # a time inside networks includes no call of the runtime
    assert fitted([*in_network(), isolated()[0]]).rows_ms == pytest.approx(COSTS_MS, rel=1e-12)


def test_profiled_blocks_tell_how_blocks_share_the_time_of_networks() -> None:
    """Blocks cost inside networks more or less than alone; few networks can't tell which."""
    rng = np.random.default_rng(0)
    truth = {
        block: ms * float(np.exp(0.08 * rng.standard_normal())) for block, ms in COSTS_MS.items()
    }
    seen = [*isolated(noise=0.01), *networks(5, 0, 0.01, truth)]

    def missed(model: LatencyModel) -> float:
        return float(np.median([abs(model.rows_ms[block] / ms - 1) for block, ms in truth.items()]))

    # a profiler slows everything down by a tenth
    profiled = [scaled(item, 1.1) for item in in_network(truth)]
    assert missed(fitted([*seen, *profiled])) < 0.6 * missed(fitted(seen))


def test_no_held_out_error_is_claimed_for_fewer_than_six_networks() -> None:
    blocks = isolated(noise=0.01)[::4]
    assert fitted([*blocks, *networks(5, 0, 0.01)], validate=True).held_out is None
    six = fitted([*blocks, *networks(6, 0, 0.01)], validate=True).held_out
    assert six is not None and (six.networks, six.folds) == (6, 6)


def test_held_out_networks_are_not_in_the_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[Observation]] = []
    predicted: list[tuple[Block, ...]] = []
    real = LatencyModel.predict

    def fit(device: str, rest: list[Observation], **settings: object) -> LatencyModel:
        seen.append(rest)
        return fitted(rest)

    def predict(self: LatencyModel, nets: Sequence[tuple[Block, ...]]) -> Predictions:
        learnt = {network.blocks for network in self.networks}
        assert not learnt & set(map(tuple, nets))
        predicted.extend(nets)
        return real(self, nets)

    monkeypatch.setattr(module, "fit_model", fit)
    monkeypatch.setattr(LatencyModel, "predict", predict)
    blocks, observed = isolated(noise=0.01)[::4], networks(14, 0, 0.01)
    held_out = cross_validate("phone", [*blocks, *observed])
    assert held_out is not None and (held_out.networks, held_out.folds) == (14, 6)
    assert len(seen) == 6 and all(set(blocks) <= set(rest) for rest in seen)
    missing = [item for rest in seen for item in observed if item not in rest]
    assert sorted(missing, key=observed.index) == observed
    assert len(predicted) == 14


def test_every_network_is_compared_with_its_own_prediction() -> None:
    """Networks whose order is mixed up between the folds would be off by the space's width."""
    held_out = fitted([*isolated(noise=0.01), *networks(14, 0, 0.01)], validate=True).held_out
    assert held_out is not None
    assert held_out.within_10 == 1.0 and held_out.spearman > 0.9
    assert held_out.rmspe < 0.04


def test_an_absurd_network_has_an_absurd_held_out_error() -> None:
    observed = networks(18, 0, 0.01)
    absurd = [*observed[:9], scaled(observed[9], 0.1), *observed[10:]]
    held_out = fitted([*isolated(noise=0.01), *absurd], validate=True).held_out
    assert held_out is not None
    # it is predicted from the others, at ten times what it says
    assert held_out.rmspe > 0.8 * 9 / 18**0.5
    assert held_out.within_10 < 1


def test_scores_are_those_computed_by_hand() -> None:
    predicted = Predictions(np.array([1.04, 2.16, 3.6, 4.0]), np.array([0.1, 0.05, 0.4, 0.1]))
    scores = score_predictions(predicted, np.array([1.0, 2.0, 3.0, 4.0]))
    assert (scores.networks, scores.within_5, scores.within_10) == (4, 0.5, 0.75)
    assert scores.rmspe == pytest.approx(((0.04**2 + 0.08**2 + 0.2**2) / 4) ** 0.5)
    assert scores.spearman == pytest.approx(1.0)
    assert scores.covered_90 == 0.75
    assert scores.folds == 0


def test_equal_latencies_have_no_rank() -> None:
    same, rising = np.full(3, 2.0), np.array([1.0, 2.0, 3.0])
    for mean, measured in ((same, rising), (rising, same), (same[:1], same[:1])):
        assert score_predictions(Predictions(mean, 0.1 * mean), measured).spearman == 0.0


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_four_networks_of_a_changed_device_outweigh_many_earlier_ones(factor: float) -> None:
    before = fitted([*isolated(noise=0.01), *networks(24, 0, 0.01)])
    after = update_model(before, [scaled(network, factor) for network in networks(4, 1, 0.01)])
    fresh = [scaled(network, factor) for network in networks(20, 2)]
    assert np.abs(errors(after, fresh)).max() < 0.05
    assert len(after.networks) == 28
    assert {network.session for network in after.networks} == {0, 1}


def test_a_device_that_recovers_is_followed() -> None:
    model = fitted([*isolated(noise=0.01), *networks(16, 0, 0.01)])
    for seed, factor in ((1, 1.25), (2, 1.0)):
        model = update_model(
            model, [scaled(network, factor) for network in networks(4, seed, 0.01)]
        )
    assert np.abs(errors(model, networks(20, 3))).max() < 0.05
    assert {network.session for network in model.networks} == {0, 1, 2}


def test_observing_the_prediction_changes_hardly_anything() -> None:
    before = fitted([*isolated(noise=0.01), *networks(24, 0, 0.01)])
    fresh = networks(4, 1)
    predicted = before.predict([network.blocks for network in fresh]).mean_ms.tolist()
    expected = [msgspec.structs.replace(o, ms=ms) for o, ms in zip(fresh, predicted, strict=True)]
    after = update_model(before, expected)
    assert np.abs(errors(after, expected)).max() < 0.005
    assert after.cost_table  # the same blocks
    assert list(after.rows_ms) == list(before.rows_ms)


def test_observed_networks_may_have_blocks_that_were_never_measured() -> None:
    before = fitted([item for item in isolated(noise=0.01) if DEEP not in item.blocks])
    fresh = [network for network in networks(60, 1, 0.01) if DEEP in network.blocks][:6]
    after = update_model(before, fresh)
    assert DEEP not in before.rows_ms
    assert after.rows_ms[DEEP] == pytest.approx(COSTS_MS[DEEP], rel=0.25)


def test_an_update_preserves_the_description_of_the_model() -> None:
    before = fitted([*isolated(noise=0.01)[::3], *networks(3, 0, 0.01)])
    after = update_model(before, networks(3, 1, 0.01))
    for name in ("device", "kind", "source", "made", "sources", "conditions"):
        assert getattr(after, name) == getattr(before, name)


def test_the_order_of_observations_does_not_matter() -> None:
    observed = [*isolated(noise=0.01)[::2], *networks(12, 0, 0.02)]
    mixed = [observed[place] for place in np.random.default_rng(0).permutation(len(observed))]
    there, back = fitted(observed), fitted(mixed)
    assert back.rows_ms == pytest.approx(there.rows_ms, rel=1e-3)
    nets = [network.blocks for network in networks(5, 1)]
    first, second = there.predict(nets), back.predict(nets)
    np.testing.assert_allclose(second.mean_ms, first.mean_ms, rtol=1e-3)
    np.testing.assert_allclose(second.std_ms, first.std_ms, rtol=0.05)
