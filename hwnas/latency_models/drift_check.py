"""Check whether a latency model still holds: compare its predictions with new measurements.

A factor common to all networks is a drift of the machine from the model's calibration; the
remaining error is the model's own. The intervals are therefore checked twice: as they are, and
after dividing the measurements by the common factor (the median ratio).
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
"""Share of new networks that must lie inside their 90 % intervals. If the model holds, only 1.3 %
of checks with ten networks have six or fewer inside."""


class NetworkComparison(msgspec.Struct, frozen=True):
    """Prediction and measurement of a network that the model was not fitted to."""

    measured_ms: float
    predicted_ms: float
    interval_ms: tuple[float, float]
    """Bounds of the 90 % interval of the prediction."""
    inside: bool


class Comparison(msgspec.Struct, frozen=True):
    """Comparison of a model with newly measured networks."""

    verdict: Verdict
    networks: tuple[NetworkComparison, ...]
    inside: int
    inside_after_factor: int
    factor: float
    """Median of measured over predicted."""
    factor_ci95: tuple[float, float]

    @property
    def off(self) -> bool:
        """Whether the common factor differs significantly from 1."""
        return not self.factor_ci95[0] <= 1 <= self.factor_ci95[1]


def compare_measured(
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
            NetworkComparison(float(ms), float(mean), (float(a), float(b)), bool(within))
            for ms, mean, a, b, within in rows
        ),
        int(inside.sum()),
        int(after.sum()),
        factor,
        median_interval(ratios),
    )
