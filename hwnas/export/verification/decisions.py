"""Outputs that follow from a decision: an argmax, a comparison or a rounding may fall either way.

If the two sides of a decision are equal up to rounding, a file may decide differently from PyTorch,
and all values that follow differ: the class whose embedding is looked up, a mask of logits above 0.
Such a file is compared with PyTorch's outputs after the file's decisions, each of which must be as
good as PyTorch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.recording import Call, Value
from hwnas.export.graph.trace import Replayed, replayed
from hwnas.export.verification.bisect import tensor_value
from hwnas.export.verification.metrics import Array

INDEXING = ("argmax", "argmin", "topk", "sort", "argsort", "max", "min")
COMPARING = ("gt", "ge", "lt", "le", "eq", "ne")
ROUNDING = ("round", "floor", "ceil")
COPYING = ("to", "_to_copy", "clone", "alias")

Outputs = Mapping[str, Array]


def as_decided(
    path: Path,
    module: nn.Module,
    interface: Interface,
    inputs: Sequence[Array],
    outputs: Outputs,
    expected: Outputs,
    limit: float,
) -> dict[str, Array]:
    """Return ``expected`` with PyTorch's outputs after the decisions of the file at ``path``.

    That is for samples in which an output differs by more than ``limit`` of its largest value, and
    a decision of the file whose two sides differ by less in PyTorch.
    """
    decided = {name: values.copy() for name, values in expected.items()}
    for place in _differing(outputs, expected, limit):
        sample = [array[place : place + 1] for array in inputs]
        decisions = Decisions(path, interface, sample, limit)
        with suppress(ExportError):  # what cannot be traced is compared as it is
            result = replayed(module, interface, sample, decisions)
            for name, value in result.recording.outputs.items() if decisions.taken else ():
                if isinstance(value, Value) and name in decided:
                    row = decided[name][place]
                    row[...] = result.known[value].numpy().astype(row.dtype).reshape(row.shape)
    return decided


def _differing(outputs: Outputs, expected: Outputs, limit: float) -> list[int]:
    """Return the samples in which an output differs."""
    places: set[int] = set()
    for name, values in expected.items():
        numbers, others = (each.astype(np.float64) for each in (values, outputs[name]))
        differences = np.abs(numbers - others).reshape(len(values), -1).max(axis=1, initial=0.0)
        wrong = differences > limit * np.abs(numbers).max(initial=0.0)
        places |= set(np.nonzero(wrong)[0].tolist())
    return sorted(places)


class Decisions:
    """The decisions of a file for one sample that differ from PyTorch's and are as good."""

    def __init__(
        self, path: Path, interface: Interface, sample: Sequence[Array], limit: float
    ) -> None:
        self.path, self.interface, self.sample, self.limit = path, interface, sample, limit
        self.taken: dict[Value, Tensor] = {}

    def __call__(self, result: Replayed) -> dict[Value, Tensor]:
        """Return those up to the next one: what is computed after it depends on it."""
        for call in result.recording.calls:
            for value in call.results:
                if value in self.taken or not _decides(call, result.known[value]):
                    continue
                theirs = self._of_file(result, value)
                if theirs is not None and not torch.equal(theirs, result.known[value]):
                    distance, size = GAPS[call.op](call, result.known, result.known[value], theirs)
                    if distance <= self.limit * size:
                        self.taken[value] = theirs
                    return self.taken
        return self.taken

    def _of_file(self, result: Replayed, value: Value) -> Tensor | None:
        """Return a value in the file, None if it has no tensor of its name and shape."""
        name, own = _name(result, value), result.known[value]
        if name is not None:
            with suppress(ExportError, ValueError):
                array = tensor_value(self.path, name, self.sample, self.interface)
                return torch.from_numpy(array.copy()).reshape(own.shape).to(own.dtype)
        return None


def _name(result: Replayed, value: Value) -> str | None:
    """Return the name of a value in the graph, or of the same value as floats."""
    copies = (
        call.result
        for call in result.recording.calls
        if call.op in COPYING and call.operands == [value]
    )
    return next((result.names[each] for each in (value, *copies) if each in result.names), None)


def _decides(call: Call, result: Tensor) -> bool:
    """Return whether a result of a call is a decision; the values beside an index are none."""
    return call.op in GAPS and not (call.op in INDEXING and result.is_floating_point())


def _indexed(
    call: Call, known: Mapping[Value, Tensor], own: Tensor, theirs: Tensor
) -> tuple[float, float]:
    source, axis = _operand(call, known, "self"), call.args.get("dim")
    if axis is None:
        source, axis, own, theirs = source.flatten(), 0, own.reshape(1), theirs.reshape(1)
    keeps = own.dim() == source.dim()
    own, theirs = (each if keeps else each.unsqueeze(axis) for each in (own, theirs))
    if theirs.min() < 0 or theirs.max() >= source.shape[axis]:
        return float("inf"), 0.0
    first, second = (source.gather(axis, each) for each in (own, theirs))
    return _largest(first - second), _largest(source)


def _compared(
    call: Call, known: Mapping[Value, Tensor], own: Tensor, theirs: Tensor
) -> tuple[float, float]:
    first, second = (_operand(call, known, name) for name in ("self", "other"))
    first, second = torch.broadcast_tensors(first.float(), second.float())
    apart = (first - second)[own != theirs]
    return _largest(apart), max(_largest(first), _largest(second))


def _rounded(
    call: Call, known: Mapping[Value, Tensor], own: Tensor, theirs: Tensor
) -> tuple[float, float]:
    source, other = _operand(call, known, "self"), own != theirs
    middle = {"round": (own + theirs) / 2, "floor": torch.maximum(own, theirs)}
    edge = middle.get(call.op, torch.minimum(own, theirs))
    steps = _largest((own - theirs)[other])
    return _largest((source - edge)[other]) if steps <= 1 else float("inf"), _largest(source)


def _operand(call: Call, known: Mapping[Value, Tensor], name: str) -> Tensor:
    argument: Any = call.args[name]
    return known[argument] if isinstance(argument, Value) else torch.as_tensor(argument)


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


Gap = Callable[[Call, Mapping[Value, Tensor], Tensor, Tensor], tuple[float, float]]

GAPS: dict[str, Gap] = {
    **dict.fromkeys(INDEXING, _indexed),
    **dict.fromkeys(COMPARING, _compared),
    **dict.fromkeys(ROUNDING, _rounded),
}
"""Functions that return the distance of the two sides of a decision, and the size of their
values."""
