"""What a latency model learns from: blocks and networks with their latencies."""

from __future__ import annotations

from typing import Literal

import msgspec

What = Literal["alone", "inside", "network"]


class Observation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One latency of a block or of a whole network.

    ``what``: ``alone`` is a model of that block only, so a call of the runtime is in it; ``inside``
    is the block's time inside running networks (a profiler's figure, a published table);
    ``network`` is a whole network. ``alone`` without keys is the null model: a call of the runtime
    that computes nothing.
    """

    what: What
    keys: tuple[str, ...]
    """Block keys, one for each block that computes something, repeated where a block is."""
    ms: float
    standard_error: float = 0.0
    """Relative."""
    session: int = 0
    """Networks of one session share what the machine's state does, e.g. its software."""
    process: int = 0
    """Networks measured in one worker process share what its memory layout does, a few tenths of a
    percent, sometimes one; 0: not known, each for itself."""
