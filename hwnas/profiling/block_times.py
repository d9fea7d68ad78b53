"""The share of a network's time that each of its blocks takes, by the runtime's own profiler.

ONNX Runtime names operators after their block; an operator without a name, such as a sum or a
change of the memory layout, belongs to the block before it. LiteRT's operators have no names, but
run in the order of the file, so each block owns as many of them as `Block.kernels` has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from hwnas.architecture.architecture import Block
from hwnas.devices.op_profile.local import OperatorTime, operator_times
from hwnas.devices.profile import DeviceProfile

UNCOUNTED_KINDS = ("Reshape", "Copy")
"""Kinds of LiteRT's operators that `Block.kernels` does not have."""


def block_shares(path: Path, profile: DeviceProfile, blocks: Sequence[Block]) -> tuple[float, ...]:
    """Profile a chain of ``blocks`` on this machine; return the share of each computing block.

    The shares sum to 1. Empty if the runtime's operators do not match the blocks.
    """
    rows = operator_times(path, profile.runtime, profile.measure.threads)
    owners = _by_name(rows) if profile.runtime == "onnxruntime" else _by_order(rows, blocks)
    total_ms = sum(row.median_ms for row in rows)
    if not owners or total_ms == 0:  # a profiler's resolution is a microsecond
        return ()
    shares = [0.0] * len(blocks)
    for owner, row in zip(owners, rows, strict=True):
        shares[owner] += row.median_ms / total_ms
    return tuple(share for share, block in zip(shares, blocks, strict=True) if not block.is_free)


def _by_name(rows: Sequence[OperatorTime]) -> list[int]:
    """Return the index of each operator's block; empty if no operator is named after a block."""
    owners, last = list[int](), 0
    for row in rows:
        if match := re.match(r"blocks\.(\d+)\.", row.name):
            last = int(match[1])
        owners.append(last)
    return owners if any(owners) else []


def _by_order(rows: Sequence[OperatorTime], blocks: Sequence[Block]) -> list[int]:
    """Return the index of each operator's block; empty if their number is unexpected."""
    expected = [place for place, block in enumerate(blocks) for _ in block.kernels]
    is_counted = [not any(kind in row.kind for kind in UNCOUNTED_KINDS) for row in rows]
    if sum(is_counted) != len(expected):
        return []
    owners, position = list[int](), 0
    for counted in is_counted:
        owners.append(expected[min(position, len(expected) - 1)])
        position += counted
    return owners
