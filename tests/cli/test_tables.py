"""Tables for people fit the terminal, or become lists; elsewhere rows stay whole."""

from __future__ import annotations

import io
import re
import sys

import pytest

from hwnas.cli.tables import fit, print_table

TITLES = ("name", "title", "ms")
ROWS = (
    ("host-cpu-litert", "this machine's processor", "1.5"),
    ("pixel1", "", "25.25"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(monkeypatch: pytest.MonkeyPatch, columns: int, *, terminal: bool = True) -> list[str]:
    """Return the lines of the table at a width of the terminal, without blank ones."""
    stream = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    print_table(TITLES, ROWS, left=2)
    text = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue())
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def test_the_widest_columns_give_way_as_far_as_their_words() -> None:
    assert fit([4, 20, 10], [4, 5, 9], 34) == [4, 20, 10]
    assert fit([4, 20, 10], [4, 5, 9], 25) == [4, 11, 10]
    assert fit([4, 20, 10], [4, 5, 9], 18) == [4, 5, 9]
    assert fit([4, 20, 10], [4, 5, 9], 17) is None


@pytest.mark.parametrize("columns", [45, 50, 60, 80])
def test_no_word_is_broken_and_no_line_is_wider_than_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = printed(monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    words = " ".join(lines).split()
    assert {word for row in ROWS for cell in row for word in cell.split()} <= set(words)
    assert lines[0].split() == list(TITLES)


def test_where_words_have_no_room_a_row_is_a_list_of_its_cells(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert printed(monkeypatch, 24) == [
        "host-cpu-litert",
        "  title  this machine's",
        "         processor",
        "  ms     1.5",
        "pixel1",
        "  ms  25.25",
    ]


def test_rows_stay_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 20, terminal=False)
    assert lines[2].split() == [*ROWS[0][:1], *ROWS[0][1].split(), "1.5"]
