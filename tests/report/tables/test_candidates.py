"""Which candidates a page shows."""

from __future__ import annotations

import msgspec

from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.html import html, markdown
from hwnas.report.schema import ReportData
from hwnas.report.tables.candidates import MAX_CANDIDATES, shown_candidates
from tests.support.reporting.sample_report import measured_report


def many(report: ReportData, count: int) -> tuple[CandidateRow, ...]:
    """Return ``count`` further candidates: every tenth is trained, every second measured."""
    row = next(row for row in report.results[0].candidates if not row.chosen)
    return tuple(
        msgspec.structs.replace(
            row,
            name=f"evolution {number}",
            digest=f"{number:016x}",
            measured_ms=0.2 if number % 2 else None,
            ci95_ms=None,
            validation_accuracy=number / count if number % 10 == 0 else None,
        )
        for number in range(count)
    )


def test_few_candidates_are_all_shown() -> None:
    candidates = measured_report().results[0].candidates
    assert shown_candidates(candidates) == candidates


def test_of_many_the_chosen_the_trained_and_the_measured_are_shown_in_their_order() -> None:
    report = measured_report()
    chosen = next(row for row in report.results[0].candidates if row.chosen)
    shown = shown_candidates([*many(report, 1000), chosen])
    assert len(shown) == MAX_CANDIDATES and shown[-1] == chosen
    numbers = [int(row.name.split()[1]) for row in shown[:-1]]
    assert numbers == sorted(numbers)
    assert {number for number in numbers if number % 10 == 0} == set(range(0, 1000, 10))
    assert all(number % 10 == 0 or number % 2 for number in numbers)


def test_a_page_of_ten_thousand_candidates_is_small_and_says_how_many_there_are() -> None:
    report = measured_report()
    [result] = report.results
    candidates = (*result.candidates, *many(report, 10_000))
    report = msgspec.structs.replace(
        report, results=(msgspec.structs.replace(result, candidates=candidates),)
    )
    page = html(report)
    assert len(page) < 600_000
    line = f"{MAX_CANDIDATES} of 10008: the chosen one"
    assert line in page and line in markdown(report)
    assert "evolution 9990" in page and "evolution 9991" not in page
