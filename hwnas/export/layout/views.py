"""Strided views: the position of each element of a moved, reshaped or cut value in the whole."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from hwnas.export.graph.nodes import Node, Reshape, Slice, Transpose

Shape = tuple[int, ...]


class Run(NamedTuple):
    """Elements at a fixed distance, ``stride``; ``size`` is larger than 1."""

    size: int
    stride: int


class View(NamedTuple):
    """A value in terms of the flat elements of another one."""

    axes: tuple[tuple[Run, ...], ...]
    """Runs of each axis, the outermost first; none for an axis of size 1."""
    offset: int = 0

    @property
    def shape(self) -> Shape:
        return tuple(prod(run.size for run in axis) for axis in self.axes)

    @property
    def runs(self) -> list[Run]:
        """Runs of all axes, neighbours as one where they continue each other."""
        return _joined([run for axis in self.axes for run in axis])


def whole(shape: Shape) -> View:
    """Return a value of ``shape`` as a view of itself."""
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    pairs = zip(shape, strides, strict=True)
    return View(tuple((Run(size, stride),) if size > 1 else () for size, stride in pairs))


def through(view: View, node: Node) -> View | None:
    """Return the view after ``node``; None if that is no view.

    ``node`` reshapes, transposes, or slices without steps.
    """
    if isinstance(node, Transpose):
        return View(tuple(view.axes[axis] for axis in node.order), view.offset)
    if isinstance(node, Reshape):
        return _reshaped(view, node.shape)
    if isinstance(node, Slice) and set(node.step) == {1}:
        return _sliced(view, node.begin, node.shape)
    return None


def _joined(runs: list[Run]) -> list[Run]:
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1].stride == run.size * run.stride:
            run = Run(joined.pop().size * run.size, run.stride)
        joined.append(run)
    return joined


def _reshaped(view: View, shape: Shape) -> View | None:
    left = view.runs[::-1]
    axes: list[tuple[Run, ...]] = []
    for size in shape:
        axis: list[Run] = []
        while size > 1:
            run = left.pop()
            if size % run.size == 0:
                axis.append(run)
                size //= run.size
            elif run.size % size == 0:
                inner = run.size // size
                axis.append(Run(size, run.stride * inner))
                left.append(Run(inner, run.stride))
                size = 1
            else:
                return None
        axes.append(tuple(axis))
    return View(tuple(axes), view.offset)


def _sliced(view: View, begins: Shape, shape: Shape) -> View | None:
    axes, offset = list[tuple[Run, ...]](), view.offset
    for runs, begin, size in zip(view.axes, begins, shape, strict=True):
        runs = _joined(list(runs))
        if prod(run.size for run in runs) == size:
            axes.append(tuple(runs))
            continue
        if len(runs) != 1:
            return None
        offset += begin * runs[0].stride
        axes.append((Run(size, runs[0].stride),) if size > 1 else ())
    return View(tuple(axes), offset)
