"""The axes of a chart: ranges, positions and round ticks."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor, log10
from typing import Self

import msgspec


class Axis(msgspec.Struct, frozen=True):
    """A range of values from the left to the right, or from the bottom to the top."""

    low: float
    high: float

    @classmethod
    def around(
        cls, values: Iterable[float | None], *, margin: float = 0.07, zero: bool = False
    ) -> Self:
        """Return an axis of all values (``None`` is left out) and a margin, a share of their range.

        ``zero``: from zero, or from the lowest value if that is negative.
        """
        known = [value for value in values if value is not None]
        low, high = min(known), max(known)
        if zero:
            low = min(low, 0.0)
        room = margin * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low if zero and low == 0 else low - room, high + room)

    def percent(self, value: float) -> float:
        """Return the place of a value in percent of the length of the axis."""
        return 100 * (value - self.low) / (self.high - self.low)

    def ticks(self, about: int = 5) -> list[tuple[float, str]]:
        """Return approximately ``about`` round values inside the range, each with its label."""
        rough = (self.high - self.low) / about
        power = 10.0 ** floor(log10(rough))
        step = power * min((1, 2, 5, 10), key=lambda factor: abs(log10(factor * power / rough)))
        decimals = max(0, -floor(log10(step) + 1e-9))
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [(n * step, f"{n * step + 0.0:.{decimals}f}") for n in range(first, last + 1)]
