"""Lowering of padding in every mode; negative amounts cut off."""

from __future__ import annotations

from typing import Any

from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import LARGEST, Lowering
from hwnas.export.lowering.steps import Steps

MODES = {"reflection": "reflect", "replication": "replicate"}


def pad(lowering: Lowering, call: Call) -> None:
    """Lower `torch.nn.functional.pad`; repeated pixels are gathered axis by axis."""
    steps, value = Steps(lowering, call), lowering.operand(call)
    sides = _sides(call, len(lowering.shape(value)))
    mode = call.args.get("mode") or MODES.get(call.op.partition("_")[0], "constant")
    for axis, (before, after) in enumerate(sides):
        size = lowering.shape(value)[axis]
        cut = max(-before, 0), max(-after, 0)
        value = steps.slice(value, axis, cut[0], size - sum(cut))
    sides = tuple((max(before, 0), max(after, 0)) for before, after in sides)
    if mode == "constant":
        fill = float(call.args.get("value") or 0.0)
        value = steps.pad(value, sides, max(min(fill, LARGEST), -LARGEST))
    elif mode == "reflect" and len(sides) == 4:
        value = steps.pad(value, sides, None)
    else:
        for axis, side in enumerate(sides):
            indices = _indices(mode, lowering.shape(value)[axis], *side)
            value = steps.gather(value, axis, indices)
    steps.finish(value)


def _sides(call: Call, rank: int) -> tuple[tuple[int, int], ...]:
    """Return the amounts at both ends of each axis; PyTorch lists those of the last axis first."""
    amounts: Any = call.args.get("pad", call.args.get("padding"))
    pairs = list(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    return ((0, 0),) * (rank - len(pairs)) + tuple(pairs)


def _indices(mode: str, size: int, before: int, after: int) -> tuple[int, ...]:
    """Return which element each element of a padded axis repeats."""
    places = range(-before, size + after)
    if mode == "replicate":
        return tuple(min(max(place, 0), size - 1) for place in places)
    if mode == "circular":
        return tuple(place % size for place in places)
    return tuple(size - 1 - abs(size - 1 - abs(place)) for place in places)
