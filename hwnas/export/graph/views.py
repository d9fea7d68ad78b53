"""How a traced tensor views a value of the graph: the same elements under other axes."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Layout(Enum):
    """Axes of a traced tensor that views a value ``[N, C, H, W]``."""

    NHWC = "NHWC"
    NGCHW = "NGCHW"
    """``[N, G, C / G, H, W]``: the channels are split into G groups."""
    NCGHW = "NCGHW"
    """``[N, C / G, G, H, W]``: so split, then the two axes swapped."""
    NHW = "NHW"
    """A single channel, whose axis is dropped."""


class View(NamedTuple):
    """A view needs no operator: whatever reads the tensor reads the value."""

    layout: Layout
    groups: int = 1


NHWC = View(Layout.NHWC)
