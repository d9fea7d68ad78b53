"""The result of one check of `hwnas devices doctor`."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "warning", "failed"]


class Check(NamedTuple):
    """One check of this machine or of a device, with its outcome."""

    name: str
    state: State
    detail: str
    advice: str = ""
    """What the user can do; empty if nothing is needed."""
