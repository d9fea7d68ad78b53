"""The statistics of `hwnas.measurement.measurement` against values computed by hand."""

from __future__ import annotations

import random
from statistics import median

import pytest

from hwnas.devices.worker.rounds import half_width
from hwnas.measurement.measurement import (
    Environment,
    Measurement,
    compare,
    median_interval,
    quantile,
)
from hwnas.measurement.round import Round

ENVIRONMENT = Environment(
    device="d", fingerprint="f", hardware="h", runtime="r", runtime_version="1", threads=1, when=""
)


def measurement(*rounds: Round, calibrated_reference_ms: float | None = None) -> Measurement:
    return Measurement("m", rounds, ENVIRONMENT, calibrated_reference_ms=calibrated_reference_ms)


def rounds_of(ratios: list[float], speeds: list[float] | None = None) -> tuple[Round, ...]:
    """Rounds of three calls of 2 ms x ratio beside a reference of 2 ms, at given slowness."""
    speeds = speeds or [1.0] * len(ratios)
    return tuple(
        Round((2 * ratio * slow,) * 3, (2 * slow,) * 3)
        for ratio, slow in zip(ratios, speeds, strict=True)
    )


def test_a_rounds_ratio_is_the_median_over_the_references_median() -> None:
    assert Round((3.0, 100.0, 5.0), (2.0, 2.5, 9.0)).ratio == 5.0 / 2.5


def test_latency_is_the_median_ratio_times_the_calibrated_reference() -> None:
    result = measurement(*rounds_of([2.0, 3.0, 7.0]), calibrated_reference_ms=10.0)
    assert result.ratio == 3.0
    assert result.median_ms == 30.0
    assert result.raw_median_ms == 6.0
    assert result.drift == pytest.approx(2.0 / 10.0 - 1)


def test_without_a_calibration_milliseconds_are_those_of_this_run() -> None:
    result = measurement(*rounds_of([2.0, 3.0, 7.0]))
    assert result.median_ms == 3.0 * 2.0
    assert result.drift == 0.0


def test_a_machine_slowdown_changes_only_the_raw_median() -> None:
    ratios = [1.48, 1.50, 1.52, 1.49, 1.51, 1.50, 1.53, 1.47, 1.50, 1.50]
    steady = measurement(*rounds_of(ratios), calibrated_reference_ms=2.0)
    slowed = measurement(*rounds_of(ratios, [1.0] * 5 + [1.43] * 5), calibrated_reference_ms=2.0)
    assert slowed.ratio == pytest.approx(steady.ratio)
    assert slowed.median_ms == pytest.approx(steady.median_ms)
    assert slowed.ci95_ms == pytest.approx(steady.ci95_ms)
    assert slowed.p99_ms == pytest.approx(steady.p99_ms)
    assert slowed.raw_median_ms > 1.1 * steady.raw_median_ms


def test_nothing_is_dropped_as_an_outlier() -> None:
    result = measurement(Round((1.0, 1.0, 500.0), (1.0,) * 3), Round((1.0,) * 3, (1.0,) * 3))
    assert result.samples_ms == (1.0, 1.0, 500.0, 1.0, 1.0, 1.0)
    assert result.p99_ms > 400.0
    assert result.median_ms == 1.0
    assert result.min_ms == 1.0


def test_the_cv_is_over_the_ratios_of_rounds() -> None:
    assert measurement(*rounds_of([1.0, 2.0, 3.0])).cv == pytest.approx(0.5)
    assert measurement(*rounds_of([2.0])).cv == 0.0


def test_the_standard_error_is_that_of_a_normal_samples_median() -> None:
    rng = random.Random(0)
    ratios = [rng.gauss(10, 1) for _ in range(4000)]
    expected = 1.2533 * 1 / 4000**0.5 / 10
    assert measurement(*rounds_of(ratios)).standard_error == pytest.approx(expected, rel=0.1)


def test_raw_latencies_are_by_the_clock_of_this_run() -> None:
    raw = measurement(*rounds_of([2.0, 3.0, 7.0]), calibrated_reference_ms=10.0).raw()
    assert raw.median_ms == 6.0
    assert (raw.min_ms, raw.ci95_ms) == (4.0, (4.0, 14.0))


def test_quantiles_are_interpolated() -> None:
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert quantile([1.0, 2.0], 0.25) == 1.25
    assert quantile([4.0], 0.99) == 4.0


@pytest.mark.parametrize(
    ("count", "rank"),
    # (the largest rank whose two tails of the binomial distribution hold at most 5 %)
    [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (20, 5), (40, 13)],
)
def test_the_interval_is_the_tabled_pair_of_order_statistics(count: int, rank: int) -> None:
    numbers = [float(i) for i in range(count)]
    assert median_interval(numbers) == (numbers[rank], numbers[count - 1 - rank])


@pytest.mark.parametrize("count", [9, 15, 40])
def test_the_interval_covers_the_median_in_95_percent_of_skewed_samples(count: int) -> None:
    rng, true_median = random.Random(count), 0.6931471805599453
    hits = 0
    for _ in range(2000):
        low, high = median_interval(sorted(rng.expovariate(1.0) for _ in range(count)))
        hits += low <= true_median <= high
    assert hits / 2000 >= 0.94


@pytest.mark.parametrize("count", [1, 2, 5, 6, 9, 10, 23, 40])
def test_the_worker_stops_on_the_interval_that_is_reported(count: int) -> None:
    ratios = [random.Random(count).uniform(1, 2) for _ in range(count)]
    low, high = median_interval(sorted(ratios))
    assert half_width(ratios) == pytest.approx((high - low) / 2 / median(ratios))


def test_a_comparison_pairs_the_rounds() -> None:
    drifting = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8]
    a = measurement(*rounds_of([1.1 * ratio for ratio in drifting]))
    comparison = compare(a, measurement(*rounds_of(drifting)))
    assert (comparison.ratio, comparison.low, comparison.high) == pytest.approx((1.1, 1.1, 1.1))
    assert not comparison.tie


def test_a_comparison_uses_rounds_that_both_have() -> None:
    long = measurement(*rounds_of([1.0] * 9 + [50.0] * 20))
    assert compare(long, measurement(*rounds_of([2.0] * 9))).ratio == 0.5


def test_inside_the_interval_is_a_tie() -> None:
    rng = random.Random(1)
    a, b = (measurement(*rounds_of([rng.gauss(5, 0.2) for _ in range(20)])) for _ in range(2))
    assert compare(a, b).tie
    assert compare(a, a).tie
