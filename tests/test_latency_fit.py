"""The block table's fit against synthetic devices whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest

from hwnas.errors import HwnasError
from hwnas.latency_models import fit as module
from hwnas.latency_models.fit import fit_table, fitted, held_out, observe, predict
from hwnas.latency_models.table import SCHEMA, LatencyTable, NetworkMeasured

SCALE, CALL_MS, OVERHEAD_MS = 0.8, 0.15, 0.25
ALONE = {f"block {n}": ms for n, ms in enumerate(np.linspace(0.3, 2.0, 12).tolist())}
TRUE = {key: SCALE * (ms - CALL_MS) for key, ms in ALONE.items()}


def networks(count: int, seed: int = 0, noise: float = 0.0) -> list[NetworkMeasured]:
    """Networks of 2 to 24 blocks of the device that the constants describe."""
    rng = np.random.default_rng(seed)
    found: list[NetworkMeasured] = []
    for depth in np.linspace(2, 24, count).astype(int):
        keys = tuple(rng.choice(list(ALONE), depth).tolist())
        ms = OVERHEAD_MS + sum(TRUE[key] for key in keys)
        found.append(NetworkMeasured(keys, ms * (1 + noise * rng.normal()), 0.005))
    return found


def scaled(one: NetworkMeasured, factor: float) -> NetworkMeasured:
    return msgspec.structs.replace(one, ms=factor * one.ms)


def table(observed: Sequence[NetworkMeasured]) -> LatencyTable:
    bare = LatencyTable(SCHEMA, "d", "measured", "s", "2026", ALONE, isolated_ms=ALONE)
    return fitted(bare, observed)


def test_scale_call_and_overhead_of_a_synthetic_device_are_recovered() -> None:
    fit = fit_table(ALONE, networks(40))
    assert fit.scale == pytest.approx(SCALE, rel=0.02)
    assert fit.call_ms == pytest.approx(CALL_MS, rel=0.1)
    assert fit.overhead_ms == pytest.approx(OVERHEAD_MS, rel=0.1)
    assert fit.rows_ms == pytest.approx(TRUE, rel=0.05)


def test_networks_that_the_fit_did_not_see_are_predicted() -> None:
    fit = fit_table(ALONE, networks(40, noise=0.01))
    for one in networks(20, seed=1):
        assert predict(fit, one.keys) == pytest.approx(one.ms, rel=0.03)


def test_a_block_that_differs_inside_networks_moves_towards_the_truth() -> None:
    odd, observed = "block 7", networks(40)
    slower = [
        msgspec.structs.replace(one, ms=one.ms + 0.1 * TRUE[odd] * one.keys.count(odd))
        for one in observed
    ]
    before, after = fit_table(ALONE, observed).rows_ms, fit_table(ALONE, slower).rows_ms
    gains = {key: after[key] / before[key] for key in ALONE}
    assert max(gains, key=lambda key: gains[key]) == odd
    assert 1.03 < gains[odd] < 1.12


def test_the_posterior_is_that_of_conditioning_the_joint_gaussian() -> None:
    counts = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])
    mean = np.array([1.0, 0.5, 2.0])
    observed, noise_ms = np.array([2.1, 6.3]), np.array([0.03, 0.05])
    # brute force, in the other form: minimise the two squared errors with their precisions
    prior = np.diag(1 / (module.DEVIATION * mean) ** 2)
    precision = prior + counts.T @ np.diag(noise_ms**-2) @ counts
    shift = prior @ mean + counts.T @ (observed / noise_ms**2)
    expected = np.linalg.inv(precision) @ shift
    found = module._posterior(counts, mean, observed, noise_ms)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    assert np.abs(found - mean).max() > 0.01


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_rows_stay_positive_whatever_the_networks_say(factor: float) -> None:
    fit = fit_table(ALONE, [scaled(one, factor) for one in networks(12)])
    assert min(fit.rows_ms.values()) > 0
    assert fit.overhead_ms >= 0


def test_without_networks_rows_are_the_blocks_alone() -> None:
    fit = fit_table(ALONE, [])
    assert (fit.rows_ms, fit.overhead_ms, fit.scale, fit.call_ms) == (ALONE, 0.0, 1.0, 0.0)


def test_no_held_out_error_is_claimed_for_fewer_than_six_networks() -> None:
    assert held_out(ALONE, networks(5)) is None
    six = held_out(ALONE, networks(6))
    assert six is not None and (six.networks, six.folds) == (6, 6)


def test_held_out_error_is_of_networks_that_the_fit_did_not_see(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[list[NetworkMeasured]] = []
    monkeypatch.setattr(
        module, "fit_table", lambda alone, rest: seen.append(rest) or fit_table(alone, rest)
    )
    observed = networks(14)
    found = held_out(ALONE, observed)
    assert found is not None and (found.networks, found.within_10) == (14, 1.0)
    left_out = [one for rest in seen for one in observed if one not in rest]
    assert sorted(left_out, key=observed.index) == observed


def test_an_absurd_network_has_an_absurd_held_out_error() -> None:
    observed = networks(18)
    absurd = [*observed[:9], scaled(observed[9], 0.1), *observed[10:]]
    found = held_out(ALONE, absurd)
    assert found is not None
    # it is predicted from the others, at ten times what it says
    assert found.rmspe > 0.8 * 9 / 18**0.5
    assert found.within_10 < 1


@pytest.mark.parametrize("ms", [0.0, -1.0, float("nan"), float("inf")])
def test_a_latency_that_is_none_is_refused(ms: float) -> None:
    with pytest.raises(HwnasError, match=f"block 3 has the latency {ms} ms, expected a positive"):
        fit_table({**ALONE, "block 3": ms}, networks(8))
    wrong = msgspec.structs.replace(networks(8)[0], ms=ms)
    with pytest.raises(HwnasError, match=f"a network has the latency {ms} ms, expected a positive"):
        fit_table(ALONE, [wrong])


def test_nothing_to_fit_and_blocks_never_measured_alone_are_refused() -> None:
    with pytest.raises(HwnasError, match="no block was measured: there is nothing to fit"):
        fit_table({}, [])
    unknown = NetworkMeasured(("block 1", "block x"), 1.0, 0.01)
    with pytest.raises(HwnasError, match="block 'block x' of a network was never measured alone"):
        fit_table(ALONE, [unknown])


def test_observing_what_was_predicted_changes_hardly_anything() -> None:
    before = table(networks(24, noise=0.01))
    keys = networks(24)[15].keys
    ms = before.overhead_ms + sum(before.rows_ms[key] for key in keys)
    after = observe(before, [NetworkMeasured(keys, ms, 0.005)] * 3)
    assert after.rows_ms == pytest.approx(before.rows_ms, rel=0.01)
    assert len(after.observed) == 27


def test_observing_slower_networks_raises_their_prediction() -> None:
    observed = networks(24)
    before = table(observed[::2])
    after = observe(before, [scaled(one, 1.2) for one in observed[1::2]])
    for one in observed[6:]:
        old, new = (predict_by(found, one.keys) for found in (before, after))
        assert old < new < 1.25 * old


def test_networks_with_blocks_that_the_table_lacks_are_not_observed() -> None:
    before = table(networks(8))
    assert observe(before, [NetworkMeasured(("block x",), 9.0, 0.01)]) == before


def test_the_order_of_networks_does_not_matter_to_rows() -> None:
    observed = networks(20, noise=0.02)
    rows = fit_table(ALONE, observed).rows_ms
    assert fit_table(ALONE, observed[::-1]).rows_ms == pytest.approx(rows, rel=1e-9)


def predict_by(found: LatencyTable, keys: Sequence[str]) -> float:
    return found.overhead_ms + sum(found.rows_ms[key] for key in keys)


@pytest.mark.parametrize("factor", [0.8, 1.05, 1.25])
def test_few_networks_of_a_changed_device_outweigh_the_many_of_before(factor: float) -> None:
    before = table(networks(24))
    after = observe(before, [scaled(one, factor) for one in networks(8, seed=1)])
    for one in networks(12, seed=2):
        predicted_ms = after.overhead_ms + sum(after.rows_ms[key] for key in one.keys)
        assert predicted_ms == pytest.approx(factor * one.ms, rel=0.03)
