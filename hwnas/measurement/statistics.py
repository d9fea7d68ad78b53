"""Confidence intervals from few independent values, without a statistics package."""

from __future__ import annotations

from collections.abc import Sequence
from math import atan, comb, cos, exp, log, pi, sin, sqrt
from statistics import NormalDist, fmean, variance

MAX_QUANTILE = 1e4
"""Upper end of the search for a quantile; 99.99 % with one degree of freedom."""


def ratio_interval(ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the geometric mean of at least two independent ratios, and its Student interval."""
    logs = [log(ratio) for ratio in ratios]
    centre, half = fmean(logs), sqrt(variance(logs) / len(logs))
    half *= student_quantile(len(logs) - 1, confidence)
    return exp(centre), exp(centre - half), exp(centre + half)


def change_interval(
    old: Sequence[float], new: Sequence[float], confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the ratio of ``new`` to ``old``, and its interval by Welch's test.

    Both hold at least two independent positive values, unpaired and with different variances
    (Welch, Biometrika 1947). Degrees of freedom are rounded down, which widens the interval.
    """
    old_logs, new_logs = [log(value) for value in old], [log(value) for value in new]
    old_error, new_error = variance(old_logs) / len(old), variance(new_logs) / len(new)
    centre, error = fmean(new_logs) - fmean(old_logs), old_error + new_error
    if not error:
        return exp(centre), exp(centre), exp(centre)
    freedom = error**2 / (old_error**2 / (len(old) - 1) + new_error**2 / (len(new) - 1))
    half = sqrt(error) * student_quantile(max(1, int(freedom)), confidence)
    return exp(centre), exp(centre - half), exp(centre + half)


def wilson_interval(share: float, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval of a share of successes, e.g. an accuracy (Wilson, 1927).

    Unlike the normal interval it stays in [0, 1] and has a width at 0 % and 100 %.
    """
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half = z / (1 + z * z / trials) * spread
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference(
    only_first: int, only_second: int, trials: int, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the second share of successes less the first, of the same trials, and its interval.

    ``only_first`` and ``only_second`` trials are successes of one alone. The interval is Wald's
    with half a trial added to each of the four cells (Agresti and Min, Statistics in Medicine
    2005), within -1 and 1.
    """
    total, changed = trials + 2, only_first + only_second + 1
    centre = (only_second - only_first) / total
    half = NormalDist().inv_cdf(0.5 + confidence / 2) * sqrt(changed / total - centre**2)
    half /= sqrt(total)
    difference = (only_second - only_first) / trials
    return difference, max(-1.0, centre - half), min(1.0, centre + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test (Psychometrika 1947) that two shares of
    the same trials are equal."""
    changed, fewer = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(changed, count) for count in range(fewer + 1))
    return min(1.0, 2 * tail / 2**changed)


def student_quantile(freedom: int, confidence: float) -> float:
    """Return ``t`` with ``P(|T| <= t) = confidence`` for Student's T, by bisection."""
    low, high = 0.0, MAX_QUANTILE
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _inside(middle, freedom) < confidence else (low, middle)
    return high


def _inside(t: float, freedom: int) -> float:
    """Return P(|T| <= t), exact for integer degrees of freedom (Abramowitz & Stegun 26.7.3-4)."""
    angle = atan(t / sqrt(freedom))
    odd = freedom % 2
    term = cos(angle) if odd else 1.0
    total = 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cos(angle) ** 2 * power / (power + 1)
    return 2 / pi * (angle + sin(angle) * total) if odd else sin(angle) * total
