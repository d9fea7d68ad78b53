"""Does a model still hold: its predictions against networks measured now.

A factor that all networks share is the machine, which drifted from the model's calibration; what
is left beside it is the model's own error. So intervals are judged twice: as they are, and after
the common factor (the median ratio) is taken out.
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

ENOUGH = 0.7
"""Share of fresh networks inside their 90 % interval that is enough: of ten, six or fewer are
inside in 1.3 % of all checks of a model that holds."""


class Fresh(msgspec.Struct, frozen=True):
    """A network that the model never saw, measured now."""

    measured_ms: float
    predicted_ms: float
    interval_ms: tuple[float, float]
    """90 %."""
    inside: bool


class Comparison(msgspec.Struct, frozen=True):
    """What fresh networks say of a model."""

    verdict: Verdict
    networks: tuple[Fresh, ...]
    inside: int
    inside_after_factor: int
    factor: float
    """Median of measured over predicted."""
    factor_ci95: tuple[float, float]

    @property
    def off(self) -> bool:
        """Whether the common factor is more than chance."""
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
    needed = ENOUGH * len(measured)
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
