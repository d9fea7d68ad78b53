"""Check whether a latency model still holds: compare its predictions with new measurements.

A factor that all networks share comes from the machine, which drifted from the model's calibration;
the remaining error is the model's own. So the intervals are checked twice: as they are, and after
dividing by the common factor (the median ratio).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import median_interval

Verdict = Literal["holds", "holds with a factor", "does not hold"]

MIN_SHARE_INSIDE = 0.7
"""Share of new networks that must lie inside their 90 % interval. If the model holds, six or fewer
of ten are inside in 1.3 % of all checks."""


class Fresh(msgspec.Struct, frozen=True):
    """A newly measured network that the model was not fitted to."""

    measured_ms: float
    predicted_ms: float
    interval_ms: tuple[float, float]
    """Bounds of the 90 % interval of the prediction."""
    inside: bool


class Comparison(msgspec.Struct, frozen=True):
    """Comparison of a model with newly measured networks."""

    verdict: Verdict
    networks: tuple[Fresh, ...]
    inside: int
    inside_after_factor: int
    factor: float
    """Median of measured over predicted."""
    factor_ci95: tuple[float, float]

    @property
    def off(self) -> bool:
        """Whether the common factor differs significantly from 1."""
        return not self.factor_ci95[0] <= 1 <= self.factor_ci95[1]


def compare_fresh(
    model: LatencyModel, networks: Sequence[Sequence[Block]], measured_ms: Sequence[float]
) -> Comparison:
    """Compare predictions of ``networks`` with their measurements, both in the same order."""
    predicted, measured = model.predict(networks), np.array(measured_ms)
    low, high = predicted.interval_ms(0.9)
    ratios = sorted((measured / predicted.mean_ms).tolist())
    factor = float(np.median(ratios))
    inside = (low <= measured) & (measured <= high)
    after = (low <= measured / factor) & (measured / factor <= high)
    needed = MIN_SHARE_INSIDE * len(measured)
    verdict: Verdict = "does not hold"
    if inside.sum() >= needed:
        verdict = "holds"
    elif after.sum() >= needed:
        verdict = "holds with a factor"
    rows = zip(measured, predicted.mean_ms, low, high, inside, strict=True)
    return Comparison(
        verdict,
        tuple(
            Fresh(float(ms), float(mean), (float(a), float(b)), bool(within))
            for ms, mean, a, b, within in rows
        ),
        int(inside.sum()),
        int(after.sum()),
        factor,
        median_interval(ratios),
    )
