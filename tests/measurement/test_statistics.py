"""Intervals against values computed by hand."""

from __future__ import annotations

import pytest

from hwnas.measurement.statistics import wilson_interval


def test_the_wilson_interval_has_the_values_computed_by_hand() -> None:
    # 8 of 10 at z = 1.96: centre (0.8 + 0.19207) / 1.38415, half width 0.22663.
    low, high = wilson_interval(0.8, 10)
    assert low == pytest.approx(0.4902, abs=1e-4)
    assert high == pytest.approx(0.9433, abs=1e-4)
    # No failure in n: the lower end is n / (n + z²); the upper is 1.
    assert wilson_interval(1.0, 100) == (pytest.approx(100 / (100 + 1.959964**2)), 1.0)
    assert wilson_interval(0.0, 100)[0] == 0.0
    assert wilson_interval(0.0, 0) == (0.0, 1.0)
