"""Lets products read their second factor by rows, so that whole rows are moved before them."""

from __future__ import annotations

import msgspec

from hwnas.export.graph.nodes import MatMul
from hwnas.export.layout.arrange import Arranged
from hwnas.export.layout.dataflow import Dataflow
from hwnas.export.layout.merge import add_moved, moves_before
from hwnas.export.layout.views import Run, View


def read_by_rows(graph: Arranged) -> Arranged:
    """Return a graph whose products swap the axes of their second factor where rows move then."""
    flow = Dataflow(graph)
    for node in graph.nodes:
        if isinstance(node, MatMul) and not node.swapped[1]:
            _turn(flow, node)
    return flow.finish()


def _turn(flow: Dataflow, product: MatMul) -> None:
    second = product.inputs[1]
    moves, node = moves_before(flow, second), flow.only_read(second)
    if moves is None or node is None:
        return
    *others, rows, columns = moves.view.axes
    if not _holds_rows(columns) and _holds_rows(rows):
        add_moved(flow, node, moves.source, View((*others, columns, rows), moves.view.offset))
        turned = msgspec.structs.replace(product, swapped=(product.swapped[0], True))
        flow.replace(product, [turned])


def _holds_rows(axis: tuple[Run, ...]) -> bool:
    """Return whether neighbours on an axis are neighbours in memory."""
    return bool(axis) and axis[-1].stride == 1
