"""Reshapes in any order of axes: those that split or merge neighbours move no data."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from hwnas.export.graph.nodes import Activation, Linear, Reshape
from hwnas.export.layout.arrange import Arranger, Order, permuted
from hwnas.export.layout.readers import wanted_order

Shape = tuple[int, ...]


class Group(NamedTuple):
    """Axes before and after a reshape that hold the same elements; none of them has size 1."""

    before: tuple[int, ...]
    after: tuple[int, ...]


def reshape(arranger: Arranger, node: Reshape) -> None:
    (name,) = node.inputs
    before, after = arranger.shapes[name], node.shape
    if name in arranger.constants:
        arranger.constants[node.name] = arranger.constants[name].reshape(after)
        return
    groups, stored = _groups(before, after), arranger.order(name)
    if not _in_order(groups, before, stored):
        if _only_linear_layers_read(arranger, node):
            stored = (0, *(axis for axis in stored if axis != 0))  # the batch, of size 1
            arranger.flattened[node.name] = before[1:], tuple(axis - 1 for axis in stored[1:])
            _add(arranger, node, arranger.tensor(name, stored), tuple(range(len(after))))
            return
        wanted = wanted_order(arranger, node.name) or tuple(range(len(after)))
        stored = _stored_for(groups, before, after, wanted)
    sequence = sorted(groups, key=lambda group: stored.index(group.before[0]))
    order = _result_order(sequence, after, arranger.native(len(after)))
    _add(arranger, node, arranger.tensor(name, stored), order)


def _add(arranger: Arranger, node: Reshape, tensor: str, order: Order) -> None:
    """Add a reshape of the stored tensor, unless it has the shape already."""
    if (
        arranger.shape_of(tensor) == permuted(node.shape, order)
        and node.name not in arranger.outputs
    ):
        arranger.hold(node.name, tensor, order)
    else:
        arranger.add(node, (tensor,), order)


def _groups(before: Shape, after: Shape) -> list[Group]:
    """Return the smallest groups of axes that hold the same elements."""
    sources = [axis for axis, size in enumerate(before) if size != 1]
    targets = [axis for axis, size in enumerate(after) if size != 1]
    groups: list[Group] = []
    while sources:
        left, right = [sources.pop(0)], [targets.pop(0)]
        while (a := prod(before[n] for n in left)) != (b := prod(after[n] for n in right)):
            if a < b:
                left.append(sources.pop(0))
            else:
                right.append(targets.pop(0))
        groups.append(Group(tuple(left), tuple(right)))
    return groups


def _in_order(groups: list[Group], before: Shape, stored: Order) -> bool:
    """Return whether the axes of each group are stored side by side, in order."""
    axes = [axis for axis in stored if before[axis] != 1]
    return all(
        tuple(axes[(start := axes.index(group.before[0])) : start + len(group.before)])
        == group.before
        for group in groups
    )


def _stored_for(groups: list[Group], before: Shape, after: Shape, wanted: Order) -> Order:
    """Return the order to store the operand in, so that the result has the ``wanted`` order."""
    axes = [axis for axis in wanted if after[axis] != 1]
    for sequence in (_sequence(groups, axes), groups):
        if sequence is not None:
            ones = tuple(axis for axis, size in enumerate(before) if size == 1)
            return (*ones, *(axis for group in sequence for axis in group.before))
    raise AssertionError("groups in their own order always fit")


def _sequence(groups: list[Group], axes: list[int]) -> list[Group] | None:
    """Return the groups in the sequence of ``axes``, None if they do not lie side by side."""
    sequence = sorted(groups, key=lambda group: axes.index(group.after[0]))
    return sequence if [axis for group in sequence for axis in group.after] == axes else None


def _result_order(sequence: list[Group], after: Shape, native: Order) -> Order:
    """Return the order of the result, with axes of size 1 where they suit the native order."""
    axes = [axis for group in sequence for axis in group.after]
    for candidate in (native, tuple(range(len(after)))):
        if [axis for axis in candidate if after[axis] != 1] == axes:
            return candidate
    return (*(axis for axis, size in enumerate(after) if size == 1), *axes)


def _only_linear_layers_read(arranger: Arranger, node: Reshape) -> bool:
    """Return whether a flattened map ends in linear layers: their weights are reordered instead."""
    before = arranger.shapes[node.inputs[0]]
    flattens = len(before) == 4 and len(node.shape) == 2 and before[0] == node.shape[0] == 1
    return flattens and _ends_in_linear(arranger, node.name)


def _ends_in_linear(arranger: Arranger, name: str) -> bool:
    readers = arranger.readers.get(name, [])
    return bool(readers) and all(
        isinstance(reader, Linear)
        or (
            isinstance(reader, Activation)
            and reader.op not in ("softmax", "log_softmax")
            and _ends_in_linear(arranger, reader.name)
        )
        for reader in readers
    )
