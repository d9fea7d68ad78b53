"""The members of a trained network: their cuts, and the divergence and accuracy that these cost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hwnas.report.candidate_rows import CandidateRow

KERNELS = {"smaller kernel": "k", "smallest kernel": "kk"}
SIXTHS = 6


class Remainder(NamedTuple):
    """The remainder of a block after a cut."""

    name: str
    """``keep``, ``skip``, ``5/6 width``, ``smaller kernel``, ``smallest kernel``, or a width and a
    kernel."""

    @property
    def sixths(self) -> int:
        """Inner channels that remain, in sixths; 0: the block is left out."""
        if self.name == "skip":
            return 0
        return int(self.name[0]) if self.name[0].isdigit() else SIXTHS

    @property
    def symbol(self) -> str:
        """E.g. ``6``, ``5k``, ``4kk``, ``0``."""
        kernel = next((KERNELS[part] for part in self.name.split(", ") if part in KERNELS), "")
        return f"{self.sixths}{kernel}"


class Member(NamedTuple):
    """A row of the table."""

    row: CandidateRow
    remainders: tuple[Remainder, ...]
    """A remainder for each block that can be cut."""

    @property
    def summary(self) -> str:
        """E.g. ``6 6 5k 4 0 6``."""
        return " ".join(each.symbol for each in self.remainders)


def members(candidates: Iterable[CandidateRow]) -> list[Member]:
    """Return the networks that were cut from a trained one, the slowest first, the trained ones
    before the others."""
    rows = [row for row in candidates if row.cuts]
    rows.sort(key=lambda row: (row.validation_accuracy is None, -(row.latency_ms or 0.0)))
    return [Member(row, tuple(map(Remainder, row.cuts))) for row in rows]
