"""Latency observations: the data that a latency model is fitted to."""

from __future__ import annotations

from typing import Literal

import msgspec

from hwnas.architecture.architecture import Block

Scope = Literal["isolated", "in_network", "network"]


class Observation(msgspec.Struct, frozen=True):
    """The latency of one block or of a whole network.

    ``scope`` states what was timed: ``isolated`` is a model that consists of one block, so its
    latency includes one call of the runtime; ``in_network`` is one block's part of the latency of
    running networks (from a profiler or a published table); ``network`` is a whole network. An
    ``isolated`` observation without blocks is the null model: a call of the runtime that computes
    nothing.
    """

    scope: Scope
    blocks: tuple[Block, ...]
    """The blocks that compute something, in order; repeated blocks are repeated."""
    ms: float
    standard_error: float = 0.0
    """Relative to ``ms``."""
    session: int = 0
    """Networks of one session share the effect of the machine's state, e.g. of its software."""
    process: int = 0
    """Worker process. Networks measured in one process share the effect of its memory layout, a
    few tenths of a percent and rarely one percent; 0 means that the process is not known."""
