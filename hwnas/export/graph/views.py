"""How a traced tensor shows a value of the graph where its axes are not the value's own."""

from __future__ import annotations

from typing import Literal, NamedTuple


class View(NamedTuple):
    """Such a tensor costs nothing: what reads it reads the value."""

    kind: Literal["channels last", "in groups", "of swapped groups", "without channel axis"]
    groups: int = 1


LAST = View("channels last")
