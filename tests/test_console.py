"""Progress as plain lines, also of work that was begun by an earlier process."""

from __future__ import annotations

import pytest

from hwnas import console
from hwnas.console import PlainConsole


def test_the_time_left_counts_from_where_a_resumed_step_began(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter([0.0, 1.0, 21.0, 41.0, 50.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with PlainConsole().step("search") as update:
        update(80, 100, "")  # by the process before
        update(84, 100, "")  # 4 in 21 s
        update(90, 100, "remark")  # 10 in 41 s
    assert capsys.readouterr().err.splitlines() == [
        "search",
        "  84%, about 84 s left  ",
        "  90%, about 41 s left  remark",
        "  done in 50.0 s",
    ]
