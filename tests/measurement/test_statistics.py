"""Intervals against values computed by hand."""

from __future__ import annotations

import pytest

from hwnas.measurement.statistics import mcnemar, paired_difference, wilson_interval


def test_the_wilson_interval_has_the_values_computed_by_hand() -> None:
    # 8 of 10 at z = 1.96: centre (0.8 + 0.19207) / 1.38415, half width 0.22663.
    low, high = wilson_interval(0.8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    # No failure in n: the lower end is n / (n + z²); the upper is 1.
    assert wilson_interval(1.0, 100) == (pytest.approx(100 / (100 + 1.959964**2)), 1.0)
    assert wilson_interval(0.0, 100)[0] == 0.0
    assert wilson_interval(0.0, 0) == (0.0, 1.0)


def test_the_interval_of_a_paired_difference_is_that_of_agresti_and_min() -> None:
    # 12 of 50 trials are successes of the second alone, 3 of the first alone. With half a trial in
    # each cell: centre 9 / 52, variance ((12.5 + 3.5) / 52 - centre^2) / 52
    difference, low, high = paired_difference(3, 12, 50)
    centre = 9 / 52
    half = 1.959964 * ((16 / 52 - centre**2) / 52) ** 0.5
    assert difference == pytest.approx(9 / 50)
    assert (low, high) == pytest.approx((centre - half, centre + half), abs=1e-6)
    assert paired_difference(0, 0, 10)[1] < 0 < paired_difference(0, 0, 10)[2]
    assert paired_difference(0, 10, 10)[2] == 1


def test_the_exact_test_of_mcnemar_is_a_binomial_test_of_the_changed_trials() -> None:
    assert mcnemar(3, 12) == mcnemar(12, 3) == pytest.approx(2 * (1 + 15 + 105 + 455) / 2**15)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1
    assert mcnemar(0, 10) == 2 / 2**10
    assert 0 < mcnemar(800, 1200) < 1e-15
