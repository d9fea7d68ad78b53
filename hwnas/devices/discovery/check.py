"""The result of one check of `hwnas devices doctor`."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "warning", "failed"]


class Check(NamedTuple):
    """A finding about this machine or a device."""

    name: str
    state: State
    detail: str
    advice: str = ""
    """What the user can do; empty if nothing is needed."""
