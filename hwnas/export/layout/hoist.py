"""Transposes a value once before it is cut, if all pieces would be transposed in the same way.

This applies to queries, keys and values of attention: a linear layer computes all three, they are
cut and scaled, and each is moved to one matrix per head.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import NamedTuple

import msgspec

from hwnas.export.graph.nodes import (
    Activation,
    Arithmetic,
    Constant,
    Node,
    Reshape,
    Slice,
    Transpose,
)
from hwnas.export.layout.arrange import Arranged
from hwnas.export.layout.dataflow import Dataflow
from hwnas.export.layout.merge import MAX_AXES
from hwnas.export.layout.views import Run, Shape, View, through, whole


class Piece(NamedTuple):
    """A transposed part of a value."""

    node: Transpose
    view: View
    functions: tuple[Node, ...]
    """Functions of each element between the value and ``node``, the first one first."""


class Base(NamedTuple):
    """Axes of a value such that every piece is a range of each of them."""

    shape: Shape
    strides: Shape
    order: tuple[int, ...]
    """Axes in the order in which all pieces have them."""


def hoisted(graph: Arranged) -> Arranged:
    """Return a graph in which pieces of a value that are transposed alike are cut afterwards.

    This is done only if it does not move more data.
    """
    flow = Dataflow(graph)
    pieces: dict[str, list[Piece]] = {}
    for node in graph.nodes:
        if isinstance(node, Transpose) and (located := _located(flow, node)) is not None:
            source, piece = located
            pieces.setdefault(source, []).append(piece)
    for source, group in pieces.items():
        while len(group) > 1:
            alike = [group[0]]
            for piece in group[1:]:
                if _base(flow.shape(source), [*alike, piece]) is not None:
                    alike.append(piece)
            _hoist(flow, source, alike)
            group = [piece for piece in group if piece not in alike]
    return flow.finish()


def _located(flow: Dataflow, node: Transpose) -> tuple[str, Piece] | None:
    """Return the value that was cut to what ``node`` transposes; None if it was not cut."""
    chain: list[Node] = [node]
    cut = 0
    while (before := flow.nodes.get(_operand(flow, chain[-1]))) is not None:
        alone = flow.only_read(before.name) is not None
        passed = isinstance(before, Reshape) or _is_function(flow, before)
        if not (isinstance(before, Slice) or (alone and passed)):
            break
        chain.append(before)
        cut = len(chain) if isinstance(before, Slice) else cut
    if not cut:
        return None
    moves = [step for step in chain[:cut] if isinstance(step, Transpose | Reshape | Slice)]
    source = _operand(flow, chain[cut - 1])
    view: View | None = whole(flow.shape(source))
    for step in reversed(moves):
        view = None if view is None else through(view, step)
    functions = tuple(step for step in reversed(chain[:cut]) if step not in moves)
    return None if view is None else (source, Piece(node, view, functions))


def _operand(flow: Dataflow, node: Node) -> str:
    """Return the operand of a node that is no constant."""
    names = [name for name in node.inputs if not isinstance(flow.nodes.get(name), Constant)]
    return names[0] if names else ""


def _is_function(flow: Dataflow, node: Node) -> bool:
    """Return whether a node is a function of each element on its own."""
    if isinstance(node, Activation):
        return node.op not in ("softmax", "log_softmax")
    values = [flow.nodes.get(name) for name in node.inputs]
    constants = [value for value in values if isinstance(value, Constant)]
    return (
        isinstance(node, Arithmetic)
        and len(constants) == 1
        and prod(constants[0].shape) == 1
        and node.fused is None
    )


def _base(shape: Shape, pieces: Sequence[Piece]) -> Base | None:
    """Return common axes of pieces; None if they are no ranges of any, or in several orders."""
    strides = {run.stride for piece in pieces for run in piece.view.runs} | {1}
    bounds = [prod(shape), *sorted(strides, reverse=True)]
    if any(outer % inner for outer, inner in pairwise(bounds)):
        return None
    sizes = tuple(outer // inner for outer, inner in pairwise(bounds))
    base = Base(sizes, tuple(bounds[1:]), ())
    sequences = [_sequence(base, piece.view) for piece in pieces]
    known = [sequence for sequence in sequences if sequence is not None]
    if len(known) < len(sequences):
        return None
    longest = max(known, key=len)
    if any([axis for axis in longest if axis in each] != each for each in known):
        return None
    others = [axis for axis in range(len(sizes)) if axis not in longest]
    return base._replace(order=(*others, *longest))


def _sequence(base: Base, view: View) -> list[int] | None:
    """Return the axes of a view in its order; None if it crosses an axis in part."""
    sequence: list[int] = []
    for run in _split(base, view.runs):
        axis = base.strides.index(run.stride)
        begin = view.offset // run.stride % base.shape[axis]
        if begin + run.size > base.shape[axis]:
            return None
        sequence.append(axis)
    return sequence


def _split(base: Base, runs: Sequence[Run]) -> list[Run]:
    """Return runs that lie in one axis each."""
    split: list[Run] = []
    for run in runs:
        parts: list[Run] = []
        size, axis = run.size, base.strides.index(run.stride)
        while axis and size > base.shape[axis] and size % base.shape[axis] == 0:
            parts.append(Run(base.shape[axis], base.strides[axis]))
            size //= base.shape[axis]
            axis -= 1
        split += [Run(size, base.strides[axis]), *parts[::-1]]
    return split


def _hoist(flow: Dataflow, source: str, pieces: Sequence[Piece]) -> None:
    shape = flow.shape(source)
    base = _base(shape, pieces)
    count = sum(prod(piece.node.shape) for piece in pieces)
    if len(pieces) < 2 or base is None or len(base.shape) > MAX_AXES or prod(shape) > count:
        return
    split, moved = (f"{pieces[0].node.name}.{name}" for name in ("split", "whole"))
    sizes = tuple(base.shape[axis] for axis in base.order)
    steps: list[Node] = [
        Reshape(name=split, inputs=(source,), shape=base.shape),
        Transpose(name=moved, inputs=(split,), shape=sizes, order=base.order),
    ]
    flow.add_after(source, steps)
    for piece in pieces:
        flow.replace(piece.node, _cut(flow, base, moved, sizes, piece))


def _cut(flow: Dataflow, base: Base, name: str, sizes: Shape, piece: Piece) -> list[Node]:
    """Return the nodes that cut a piece from the transposed value and apply its functions."""
    node, view = piece.node, piece.view
    lengths = {base.strides.index(run.stride): run.size for run in _split(base, view.runs)}
    shape = tuple(lengths.get(axis, 1) for axis in base.order)
    begin = tuple(
        view.offset // base.strides[axis] % base.shape[axis] if size < full else 0
        for axis, size, full in zip(base.order, shape, sizes, strict=True)
    )
    steps: list[Node] = []
    if shape != sizes:
        ones = (1,) * len(shape)
        cut = Slice(name=f"{node.name}.cut", inputs=(name,), shape=shape, begin=begin, step=ones)
        steps.append(cut)
    before = steps[-1].name if steps else name
    steps.append(Reshape(name=f"{node.name}.shaped", inputs=(before,), shape=node.shape))
    for number, function in enumerate(piece.functions):
        steps += _applied(flow, function, steps[-1].name, f"{node.name}.{number}", node.shape)
    steps[-1] = msgspec.structs.replace(steps[-1], name=node.name)
    return steps


def _applied(flow: Dataflow, function: Node, value: str, name: str, shape: Shape) -> list[Node]:
    """Return a function of each element for another value, and its constant in as many axes."""
    inputs, constants = list[str](), list[Node]()
    for operand in function.inputs:
        constant = flow.nodes.get(operand)
        if isinstance(constant, Constant):
            array = constant.value.reshape((1,) * len(shape))
            operand = f"{name}.constant"
            constants.append(Constant(name=operand, inputs=(), shape=array.shape, value=array))
            inputs.append(operand)
        else:
            inputs.append(value)
    applied = msgspec.structs.replace(function, name=name, inputs=tuple(inputs), shape=shape)
    return [*constants, applied]
