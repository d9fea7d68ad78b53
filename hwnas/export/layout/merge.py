"""Merges transposes that follow each other, also with reshapes between them, into one or none."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from hwnas.export.graph.nodes import Node, Reshape, Transpose
from hwnas.export.layout.arrange import Arranged
from hwnas.export.layout.dataflow import Dataflow
from hwnas.export.layout.views import Shape, View, through, whole

MAX_AXES = 5
"""TFLite's kernels of older versions transpose no more axes."""


def merged(graph: Arranged) -> Arranged:
    """Return a graph in which no transpose follows another one that nothing else reads.

    A chain whose moves cancel is a single reshape.
    """
    flow = Dataflow(graph)
    for node in reversed(graph.nodes):
        if isinstance(node, Transpose) and node.name in flow.nodes:
            _merge_before(flow, node)
    flow = Dataflow(flow.finish())
    for node in flow.graph.nodes:
        before = flow.nodes.get(node.inputs[0]) if isinstance(node, Reshape) else None
        if isinstance(before, Reshape):
            flow.replace(node, [msgspec.structs.replace(node, inputs=before.inputs)])
    return flow.finish()


def _merge_before(flow: Dataflow, node: Transpose) -> None:
    moved = moves_before(flow, node.name)
    if moved is not None and moved.transposes > 1:
        add_moved(flow, node, moved.source, moved.view)


class Moves(NamedTuple):
    """The effect of a chain of transposes and reshapes on a value that only the chain reads."""

    source: str
    view: View
    transposes: int


def moves_before(flow: Dataflow, name: str) -> Moves | None:
    """Return the moves from the first transpose before a value up to it; None without any."""
    chain: list[Node] = []
    while isinstance(node := flow.nodes.get(name), Transpose | Reshape):
        if chain and flow.only_read(name) is None:
            break
        chain.append(node)
        (name,) = node.inputs
    while chain and not isinstance(chain[-1], Transpose):
        chain.pop()
    if not chain:
        return None
    (source,) = chain[-1].inputs
    view = whole(flow.shape(source))
    for step in reversed(chain):
        after = through(view, step)
        if after is None:
            return None
        view = after
    if len(view.runs) > MAX_AXES:
        return None
    return Moves(source, view, sum(isinstance(step, Transpose) for step in chain))


def add_moved(flow: Dataflow, node: Node, source: str, view: View) -> None:
    """Replace ``node`` by one transpose of ``source``, between reshapes, that gives ``view``."""
    sources = sorted(view.runs, key=lambda run: -run.stride)
    shape, order = tuple(run.size for run in sources), tuple(map(sources.index, view.runs))
    steps: list[Node] = []

    def step(suffix: str, kind: type[Node], size: Shape, **fields: tuple[int, ...]) -> None:
        before = steps[-1].name if steps else source
        steps.append(kind(name=f"{node.name}.{suffix}", inputs=(before,), shape=size, **fields))

    moved = tuple(shape[axis] for axis in order)
    if order != tuple(range(len(order))):
        if flow.shape(source) != shape:
            step("split", Reshape, shape)
        step("moved", Transpose, moved, order=order)
    if not steps or moved != view.shape:
        step("joined", Reshape, view.shape)
    steps[-1] = msgspec.structs.replace(steps[-1], name=node.name)
    flow.replace(node, steps)
