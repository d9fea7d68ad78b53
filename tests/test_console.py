"""Progress as plain lines, as a live picture, and not at all."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console as Rich

from hwnas import console
from hwnas.console import PlainConsole, QuietConsole, RichConsole, Standing

ROWS = [Standing("proxyless 1.2", "2.31 ms measured", "71 %"), Standing("[b]", "3 ms", "")]


def test_the_time_left_counts_from_where_a_resumed_step_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 1.0, 11.0, 21.0, 41.0, 50.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    plain = PlainConsole()
    with plain.step("search") as update:
        update(80, 100, "")  # by the process before
        update(81, 100, "")  # 1 in 11 s
        update(84, 100, "")  # 4 in 21 s
        update(90, 100, "remark")  # 10 in 41 s
        plain.standings("networks", ROWS)
    assert capsys.readouterr().err.splitlines() == [
        "search",
        "  81%, about 3 min left  ",
        "  84%, about 84 s left  ",
        "  90%, about 41 s left  remark",
        "  done in 50.0 s",
    ]


def test_a_quiet_console_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = console.console(quiet=True)
    assert isinstance(quiet, QuietConsole)
    quiet.say("a message")
    quiet.standings("networks", ROWS)
    with quiet.step("search") as update:
        update(1, 2, "remark")
    assert capsys.readouterr() == ("", "")


def terminal() -> tuple[RichConsole, io.StringIO]:
    live, screen = RichConsole(), io.StringIO()
    live.rich = Rich(file=screen, force_terminal=True, width=120, highlight=False)
    return live, screen


def test_a_terminal_shows_the_step_and_the_networks_while_it_goes() -> None:
    live, screen = terminal()
    with live.step("training [2] networks") as update:
        update(3, 12, "training accuracy 71 %, " + 20 * "long ")
        live.standings("networks in training", ROWS)
        live.say("a [message]")
    shown = screen.getvalue()
    for text in ("training [2] networks", "25%", "training accuracy 71 %", "networks in training"):
        assert text in shown, text
    assert "2.31 ms measured" in shown and "[b]" in shown and "a [message]" in shown
    assert "0:00:0" in shown, "times are not cut off by the remark"
    assert re.fullmatch(r".*training \[2\] networks: [0-9.]+ s", shown.splitlines()[-1])
    with live.step("deliver"):
        pass
    assert "proxyless 1.2" in screen.getvalue()[len(shown) :], "they stay during the next step"


def test_new_standings_take_the_place_of_the_old_ones() -> None:
    live, screen = terminal()
    live.standings("old", ROWS)
    live.standings("new", ROWS[:1])
    with live.step("search"):
        pass
    assert "new" in screen.getvalue() and "old" not in screen.getvalue()
    live.standings("none", [])
    before = len(screen.getvalue())
    with live.step("search"):
        pass
    assert "proxyless" not in screen.getvalue()[before:]
