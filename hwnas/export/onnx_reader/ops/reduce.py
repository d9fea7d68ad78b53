"""Reductions over any axes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode
from hwnas.export.onnx_reader.registry import reads

REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceMean": lambda x, axes, keep: x.mean(axes, keepdim=keep),
    "ReduceSum": lambda x, axes, keep: x.sum(axes, keepdim=keep),
    "ReduceMax": lambda x, axes, keep: x.amax(axes, keepdim=keep),
    "ReduceMin": lambda x, axes, keep: x.amin(axes, keepdim=keep),
    "ReduceProd": lambda x, axes, keep: _product(x, axes, keep),
    "ReduceL1": lambda x, axes, keep: x.abs().sum(axes, keepdim=keep),
    "ReduceL2": lambda x, axes, keep: x.square().sum(axes, keepdim=keep).sqrt(),
    "ReduceSumSquare": lambda x, axes, keep: x.square().sum(axes, keepdim=keep),
    "ReduceLogSum": lambda x, axes, keep: x.sum(axes, keepdim=keep).log(),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keepdim=keep),
}


@reads(*REDUCTIONS)
def reduction(node: OnnxNode, x: Tensor, given: Tensor | None = None) -> Tensor:
    """Reduce over the axes that an input or an attribute states, else over all."""
    keep, every = bool(node.integer("keepdims", 1)), list(range(x.dim()))
    axes = node.axes(given, x.dim(), [])
    if not axes and node.integer("noop_with_empty_axes", 0):
        x, every, keep = x.unsqueeze(-1), [x.dim()], False
    axes = sorted(axes) or every
    result = REDUCTIONS[node.op](x, axes, keep) if axes else x
    return result if x.is_floating_point() or node.op == "ReduceMean" else result.to(x.dtype)


@reads("ArgMax", "ArgMin")
def arg_extreme(node: OnnxNode, x: Tensor) -> Tensor:
    """Return the index of the first extreme of an axis, or of the last one."""
    axis, keep = node.integer("axis", 0), bool(node.integer("keepdims", 1))
    last = bool(node.integer("select_last_index", 0))
    ordered = x.flip([axis]) if last else x
    op = torch.argmax if node.op == "ArgMax" else torch.argmin
    indices = op(ordered, axis, keepdim=keep)
    return x.shape[axis] - 1 - indices if last else indices


@reads("TopK")
def top(node: OnnxNode, x: Tensor, count: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the largest or smallest elements of an axis, and their indices."""
    number = node.integer("k") if count is None else node.numbers(count, "a number of elements")[0]
    largest = bool(node.integer("largest", 1))
    values, indices = torch.topk(x, number, node.integer("axis", -1), largest, sorted=True)
    return values, indices


@reads("CumSum")
def cumsum(node: OnnxNode, x: Tensor, axis: Tensor) -> Tensor:
    """Sum up along an axis, from the end with ``reverse``, without the element itself with
    ``exclusive``."""
    [place] = node.numbers(axis, "an axis")
    backwards = bool(node.integer("reverse", 0))
    ordered = x.flip([place]) if backwards else x
    sums = torch.cumsum(ordered, place)
    sums = sums - ordered if node.integer("exclusive", 0) else sums
    return sums.flip([place]) if backwards else sums


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x
