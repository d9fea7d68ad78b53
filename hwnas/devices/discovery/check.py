"""One thing that `hwnas devices doctor` looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "warning", "failed"]


class Check(NamedTuple):
    what: str
    state: State
    found: str
    advice: str = ""
    """What to do about it; empty where nothing is to be done."""
