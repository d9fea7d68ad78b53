"""Lowering of distances between vectors."""

from __future__ import annotations

import numpy as np

from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.ops.reduce import vector_norm
from hwnas.export.lowering.steps import Steps


def cdist(lowering: Lowering, call: Call) -> None:
    """Lower the distance of each row of ``[..., P, D]`` to each of ``[..., R, D]``."""
    steps = Steps(lowering, call)
    first, second = (lowering.name(call, call.args[name]) for name in ("x1", "x2"))
    steps.finish(_distances(steps, first, second, float(call.args["p"])))


def pdist(lowering: Lowering, call: Call) -> None:
    """Lower the distances between all pairs of rows: those above the diagonal."""
    steps, value = Steps(lowering, call), lowering.operand(call)
    count = lowering.shape(value)[0]
    squares = steps.reshape(_distances(steps, value, value, float(call.args["p"])), (-1,))
    rows, columns = np.triu_indices(count, 1)
    steps.finish(steps.gather(squares, 0, tuple(map(int, rows * count + columns))))


def _distances(steps: Steps, first: str, second: str, order: float) -> str:
    *front, count, width = steps.shape(first)
    *back, others, _ = steps.shape(second)
    rows = steps.reshape(first, (*front, count, 1, width))
    apart = steps.arithmetic("sub", rows, steps.reshape(second, (*back, 1, others, width)))
    axis = len(steps.shape(apart)) - 1
    norms = vector_norm(steps, apart, (axis,), order)
    return steps.reshape(norms, steps.shape(norms)[:-1])
