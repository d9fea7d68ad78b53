"""Which share of a network's time each of its blocks takes, by the runtime's own profiler.

An operator belongs to the block whose name it bears (ONNX Runtime), and one without a name, as a
sum or a change of the memory layout, to the block before it. LiteRT's operators bear no names; they
run in the file's order, so that each block has as many as `parts_of` says it starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hwnas.architecture.architecture import Block
from hwnas.architecture.block import FREE_OPS
from hwnas.architecture.op_kernels import parts_of
from hwnas.devices.op_profile.local import OperatorTime, operator_times
from hwnas.devices.profile import DeviceProfile

WITHOUT_WORK = ("Reshape", "Copy")
"""Kinds of LiteRT's operators that no part of a block stands for."""


def block_shares(path: Path, profile: DeviceProfile, blocks: Sequence[Block]) -> tuple[float, ...]:
    """Profile a chain of ``blocks`` on this machine; return the share of each that computes.

    The shares sum to 1. Empty where the runtime's operators cannot be told apart by blocks.
    """
    rows = operator_times(path, profile.runtime, profile.measure.threads)
    owners = _by_name(rows) if profile.runtime == "onnxruntime" else _by_order(rows, blocks)
    total_ms = sum(row.median_ms for row in rows)
    if not owners or total_ms == 0:  # profilers count whole microseconds
        return ()
    shares = [0.0] * len(blocks)
    for owner, row in zip(owners, rows, strict=True):
        shares[owner] += row.median_ms / total_ms
    return tuple(
        share for share, block in zip(shares, blocks, strict=True) if block.op not in FREE_OPS
    )


def _by_name(rows: Sequence[OperatorTime]) -> list[int]:
    """Return the place of each operator's block."""
    found, last = list[int](), 0
    for row in rows:
        if named := re.match(r"blocks\.(\d+)\.", row.name):
            last = int(named[1])
        found.append(last)
    return found if any(found) else []


def _by_order(rows: Sequence[OperatorTime], blocks: Sequence[Block]) -> list[int]:
    expected = [place for place, block in enumerate(blocks) for _ in parts_of(block)]
    working = [not any(kind in row.kind for kind in WITHOUT_WORK) for row in rows]
    if sum(working) != len(expected):
        return []
    found, taken = list[int](), 0
    for works in working:
        found.append(expected[min(taken, len(expected) - 1)])
        taken += works
    return found
