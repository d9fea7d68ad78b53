"""The candidates that a page shows: all of them, or the most informative ones of very many."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.report.candidate_rows import CandidateRow

MAX_CANDIDATES = 200
"""``report.json`` has all candidates; a page of thousands is slow to open and to read."""


def shown_candidates(candidates: Sequence[CandidateRow]) -> tuple[CandidateRow, ...]:
    """Return at most `MAX_CANDIDATES`, in their order.

    The chosen one comes first, then the trained ones by their accuracy, then the measured ones.
    """
    places = sorted(range(len(candidates)), key=lambda place: _rank(candidates[place]))
    return tuple(candidates[place] for place in sorted(places[:MAX_CANDIDATES]))


def _rank(row: CandidateRow) -> tuple[bool, float, bool]:
    score = row.validation_score
    return not row.chosen, 1.0 if score is None else -score, row.measured_ms is None
