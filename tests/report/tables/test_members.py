"""The members of a trained network in the report."""

from __future__ import annotations

import msgspec
import pytest

from hwnas.report.candidate_rows import CandidateRow
from hwnas.report.html import html, markdown
from hwnas.report.tables.members import Remainder, members
from tests.support.reporting.sample_report import measured_report


def row(name: str, cuts: tuple[str, ...], **more: object) -> CandidateRow:
    fields = {"origin": "search", "digest": name, "params": 1, "macs": 1, "cuts": cuts} | more
    return msgspec.convert({"name": name, **fields}, CandidateRow)


@pytest.mark.parametrize(
    ("name", "sixths", "symbol"),
    [
        ("keep", 6, "6"),
        ("skip", 0, "0"),
        ("4/6 width", 4, "4"),
        ("smaller kernel", 6, "6k"),
        ("4/6 width, smallest kernel", 4, "4kk"),
        ("3/6 width, smaller kernel", 3, "3k"),
    ],
)
def test_what_remains_of_a_block_is_counted_in_sixths(name: str, sixths: int, symbol: str) -> None:
    assert (Remainder(name).sixths, Remainder(name).symbol) == (sixths, symbol)


def test_trained_members_come_first_the_slowest_of_them_on_top() -> None:
    rows = [
        row("untrained", ("skip",), measured_ms=9.0),
        row("fast", ("skip",), measured_ms=1.0, validation_accuracy=0.5),
        row("slow", ("keep",), measured_ms=2.0, validation_accuracy=0.5),
        row("uniform", (), measured_ms=5.0, validation_accuracy=0.5),
    ]
    assert [member.row.name for member in members(rows)] == ["slow", "fast", "untrained"]


def test_page_and_markdown_show_what_was_cut_escaped_and_only_where_something_was() -> None:
    report = measured_report()
    assert "Members of the trained network" not in html(report)
    cut = row(
        "<b>|1.1",
        ("keep", "4/6 width, smaller kernel", "skip"),
        size_px=112,
        divergence=0.1234,
        untrained_accuracy=0.5,
    )
    result = msgspec.structs.replace(report.results[0], candidates=(cut,))
    report = msgspec.structs.replace(report, results=(result,))
    page, text = html(report), markdown(report)
    assert '<i class="kept4" title="2: 4/6 width, smaller kernel">4k</i>' in page
    assert "<b>|1.1" not in page
    assert "| 112 | 6 4k 0 | 0.123 |" in text
    assert "50.0 %" in text
