"""Integer outputs up to ties: an argmax or a sort may give either of two equal values.

Values that differ by rounding only are equal here: where a file gives another index than PyTorch,
the values at both are compared in PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from torch import nn

from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.nodes import (
    Activation,
    ArgExtreme,
    Cast,
    Graph,
    Node,
    Reshape,
    TopK,
    Transpose,
)
from hwnas.export.graph.trace import trace, traced_values
from hwnas.export.verification.metrics import Array

Outputs = Mapping[str, Array]


def settle_ties(
    module: nn.Module,
    interface: Interface,
    inputs: Sequence[Array],
    outputs: Outputs,
    expected: Outputs,
    limit: float,
) -> dict[str, Array]:
    """Return ``outputs`` with PyTorch's index where another one is as good.

    That is where the values at both differ by at most ``limit`` of the largest value.
    """
    settled = dict(outputs)
    for name, values in expected.items():
        if values.dtype.kind not in "iu" or (outputs[name] == values).all():
            continue
        with suppress(ExportError):  # what cannot be traced is compared as it is
            graph = trace(module, interface)
            settled[name] = outputs[name].copy()
            for place in np.nonzero((outputs[name] != values).reshape(len(values), -1).any(1))[0]:
                sample = [array[place : place + 1] for array in inputs]
                known = _known(module, interface, graph, sample)
                if _is_tie(graph, name, known, outputs[name][place], values[place], limit):
                    settled[name][place] = values[place]
    return settled


def _known(
    module: nn.Module, interface: Interface, graph: Graph, sample: Sequence[Array]
) -> dict[str, Any]:
    """Return the values of the graph, and its inputs, for one sample."""
    pairs = zip(graph.inputs, sample, strict=True)
    given = {spec.name: array.reshape(spec.shape) for spec, array in pairs}
    return {**given, **traced_values(module, interface, sample)}


def _is_tie(
    graph: Graph, name: str, known: dict[str, Any], given: Array, expected: Array, limit: float
) -> bool:
    nodes = {node.name: node for node in graph.nodes}
    node, pair = nodes[name], [given, expected]
    while isinstance(node, Cast | Reshape | Transpose) and node.inputs[0] in nodes:
        before = nodes[node.inputs[0]]
        pair = [_undone(node, before, array) for array in pair]
        node = before
    if not isinstance(node, ArgExtreme | TopK):
        return False
    source = _value(node.inputs[0], nodes, known)
    if source is None:
        return False
    axis = node.axis if isinstance(node, ArgExtreme) else source.ndim - 1
    if not all(((array >= 0) & (array < source.shape[axis])).all() for array in pair):
        return False
    taken = [
        np.take_along_axis(source, array.reshape(node.shape).astype(np.int64), axis)
        for array in pair
    ]
    return bool(np.abs(taken[0] - taken[1]).max() <= limit * np.abs(source).max())


def _undone(node: Node, before: Node, array: Array) -> Array:
    """Return the input of a node that only moves elements, from its output."""
    if isinstance(node, Transpose):
        return array.reshape(node.shape).transpose(np.argsort(node.order))
    return array.reshape(before.shape)


def _value(name: str, nodes: Mapping[str, Node], known: Mapping[str, Any]) -> Any:
    """Return a value, computed from those that are known where it is a step of an operation."""
    if name in known:
        return known[name]
    node = nodes[name]
    source = _value(node.inputs[0], nodes, known) if len(node.inputs) == 1 else None
    if source is None:
        return None
    if isinstance(node, Reshape):
        return source.reshape(node.shape)
    if isinstance(node, Transpose):
        return source.transpose(node.order)
    return -source if isinstance(node, Activation) and node.op == "neg" else None
