"""Pieces of values: slices, splits, indices, padding, and their concatenation."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.export.onnx_reader.node import OnnxNode, is_traced
from hwnas.export.onnx_reader.registry import reads


@reads("Concat")
def concat(node: OnnxNode, *values: Tensor) -> Tensor:
    return torch.cat(values, node.integer("axis"))


@reads("Split")
def split(node: OnnxNode, x: Tensor, given: Tensor | None = None) -> Any:
    """Split into stated sizes, else into equal parts of which the last may be smaller."""
    axis = node.integer("axis", 0)
    sizes = node.attributes.get("split") if given is None else node.numbers(given, "sizes")
    if sizes is None:
        parts = node.integer("num_outputs", node.declared)
        sizes = -(-x.shape[axis] // parts)
    return torch.split(x, sizes, axis)


@reads("Slice")
def slice_(
    node: OnnxNode, x: Tensor, starts: Tensor | None = None, ends: Tensor | None = None,
    axes: Tensor | None = None, steps: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Take a range of each stated axis; in older versions the ranges are attributes."""
    if starts is None or ends is None:
        begins, stops = node.integers("starts"), node.integers("ends")
    else:
        begins, stops = node.numbers(starts, "starts"), node.numbers(ends, "ends")
    places = node.axes(axes, x.dim(), list(range(len(begins))))
    jumps = [1] * len(begins) if steps is None else node.numbers(steps, "steps")
    for axis, begin, stop, jump in zip(places, begins, stops, jumps, strict=True):
        size = x.shape[axis]
        stop = None if jump < 0 and stop < -size else stop
        chosen = range(size)[slice(begin, stop, jump)]
        if jump > 0:
            x = x if len(chosen) == size else _range(x, axis, chosen)
        else:
            x = x.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64))
    return x


@reads("Gather")
def gather(node: OnnxNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take elements of an axis, which is replaced by the axes of the indices."""
    axis = node.integer("axis", 0) % x.dim()
    if is_traced(indices):
        if not is_traced(x) and x.dim() == 2 and axis == 0:
            return F.embedding(indices, x)
        size = x.shape[axis]
        taken = x.index_select(axis, _from_zero(indices, size).reshape(-1))
        return taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    places = node.constant(indices, "indices").to(torch.int64)
    size = x.shape[axis]
    if places.numel() and not -size <= int(places.min()) <= int(places.max()) < size:
        node.refuse(f"takes an element outside an axis of {size}")
    places = torch.where(places < 0, places + size, places)
    if places.dim() == 0:
        return x.select(axis, int(places))
    taken = x.index_select(axis, places.reshape(-1))
    return taken.reshape((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


@reads("GatherElements")
def gather_elements(node: OnnxNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take an element for each index; constant indices are places in the flattened value."""
    axis = node.integer("axis", 0) % x.dim()
    if is_traced(indices):
        return x.gather(axis, _from_zero(indices, x.shape[axis]))
    places = node.constant(indices, "indices")
    grid = np.indices(places.shape)
    grid[axis] = places.numpy() % x.shape[axis]
    flat = np.ravel_multi_index(list(grid), tuple(x.shape))
    return _taken(x.reshape(-1), flat)


@reads("GatherND")
def gather_nd(node: OnnxNode, x: Tensor, indices: Tensor) -> Tensor:
    """Take slices at places, tuples along the last axis of the indices."""
    batches = node.integer("batch_dims", 0)
    if is_traced(indices):
        return _computed_slices(x, indices, batches)
    places = node.constant(indices, "indices").numpy()
    flat, depth = _flat_places(places, tuple(x.shape), batches), batches + places.shape[-1]
    rest = tuple(x.shape[depth:])
    taken = x.reshape((-1, *rest)).index_select(0, torch.from_numpy(flat.reshape(-1)))
    return taken.reshape((*places.shape[:-1], *rest))


@reads("ScatterND")
def scatter_nd(node: OnnxNode, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """Replace slices, or add to them; constant places take rows of the value or the updates."""
    adds, rest = _adds(node), tuple(x.shape[indices.shape[-1] :])
    if adds or is_traced(indices):
        rows = x.reshape((-1, *rest))
        flat = _computed_places(indices, tuple(x.shape[: indices.shape[-1]])).reshape(-1)
        written = rows.index_put((flat,), updates.reshape((-1, *rest)), accumulate=adds)
        return written.reshape(x.shape)
    places = node.constant(indices, "indices").numpy()
    flat = _flat_places(places, tuple(x.shape), 0).reshape(-1)
    rows = x.reshape((-1, *rest))
    return _replaced(rows, flat, updates.reshape((-1, *rest))).reshape(x.shape)


@reads("ScatterElements", "Scatter")
def scatter_elements(node: OnnxNode, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    adds, axis = _adds(node), node.integer("axis", 0) % x.dim()
    if adds or is_traced(indices):
        places = _from_zero(indices.to(torch.int64), x.shape[axis])
        write = x.scatter_add if adds else x.scatter
        return write(axis, places, updates)
    places = node.constant(indices, "indices")
    grid = np.indices(places.shape)
    grid[axis] = places.numpy() % x.shape[axis]
    flat = np.ravel_multi_index(list(grid), tuple(x.shape)).reshape(-1)
    return _replaced(x.reshape(-1), flat, updates.reshape(-1)).reshape(x.shape)


@reads("Pad")
def pad(
    node: OnnxNode, x: Tensor, amounts: Tensor | None = None, value: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Pad in every mode; what is no constant repeats elements, axis by axis."""
    if amounts is None:
        numbers = node.integers("pads")
        fill = node.number("value", 0.0)
    else:
        numbers = node.numbers(amounts, "amounts")
        fill = 0.0 if value is None or not value.numel() else node.constant(value, "a value").item()
    half, sides = len(numbers) // 2, [(0, 0)] * x.dim()
    places = node.axes(axes, x.dim(), list(range(half)))
    for axis, before, after in zip(places, numbers[:half], numbers[half:], strict=True):
        sides[axis] = before, after
    mode = node.text("mode", "constant")
    if mode == "constant":
        flat = [amount for side in reversed(sides) for amount in side]
        return F.pad(x, flat, value=fill)
    at_pixels = x.dim() == 4 and sides[:2] == [(0, 0), (0, 0)]
    if mode == "reflect" and at_pixels and min(min(side) for side in sides) >= 0:
        return F.pad(x, (*sides[3], *sides[2]), mode="reflect")
    for axis, (before, after) in enumerate(sides):
        if before or after:
            x = _taken_along(x, axis, _repeated(node, mode, x.shape[axis], before, after))
    return x


@reads("Trilu")
def triangle(node: OnnxNode, x: Tensor, diagonal: Tensor | None = None) -> Tensor:
    offset = 0 if diagonal is None else node.numbers(diagonal, "a diagonal")[0]
    ones = torch.ones(x.shape[-2:], dtype=torch.bool)
    mask = ones.triu(offset) if node.integer("upper", 1) else ones.tril(offset)
    return torch.where(mask, x, torch.zeros((), dtype=x.dtype))


@reads("ReverseSequence")
def reverse_sequence(node: OnnxNode, x: Tensor, lengths: Tensor) -> Tensor:
    axis = node.integer("time_axis", 0)
    if any(length != x.shape[axis] for length in node.numbers(lengths, "lengths")):
        node.refuse("reverses a part of a sequence, which is not supported")
    return x.flip([axis])


def _range(x: Tensor, axis: int, chosen: range) -> Tensor:
    index: list[Any] = [slice(None)] * x.dim()
    index[axis] = slice(chosen.start, chosen.stop, chosen.step)
    return x[tuple(index)]


def _taken(flat: Tensor, places: Any) -> Tensor:
    taken = flat.index_select(0, torch.from_numpy(np.ascontiguousarray(places.reshape(-1))))
    return taken.reshape(places.shape)


def _taken_along(x: Tensor, axis: int, places: list[int]) -> Tensor:
    return x.index_select(axis, torch.tensor(places, dtype=torch.int64))


def _flat_places(places: Any, shape: tuple[int, ...], batches: int) -> Any:
    """Return the row of each tuple of indices, in the value flattened over the indexed axes."""
    depth = places.shape[-1]
    sizes = shape[: batches + depth]
    grid = np.indices(places.shape[:-1])[:batches] if batches else []
    tuples = [places[..., n] % sizes[batches + n] for n in range(depth)]
    return np.ravel_multi_index([*grid, *tuples], sizes).astype(np.int64)


def _replaced(rows: Tensor, places: Any, updates: Tensor) -> Tensor:
    """Return ``rows`` with those at ``places`` replaced, the last of several for a place."""
    source = np.arange(rows.shape[0], dtype=np.int64)
    source[places] = rows.shape[0] + np.arange(len(places))
    return torch.cat((rows, updates)).index_select(0, torch.from_numpy(source))


def _computed_slices(x: Tensor, indices: Tensor, batches: int) -> Tensor:
    """Take slices at tuples of computed indices ``[..., depth]``, behind ``batches`` axes."""
    depth = batches + indices.shape[-1]
    indexed, rest = tuple(x.shape[batches:depth]), tuple(x.shape[depth:])
    count, width = prod(indices.shape[batches:-1]), prod(rest)
    flat = _computed_places(indices, indexed).reshape((-1, count, 1)).expand((-1, count, width))
    taken = x.reshape((-1, prod(indexed), width)).gather(1, flat)
    return taken.reshape((*indices.shape[:-1], *rest))


def _computed_places(indices: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Return the row of each tuple along the last axis, in the value flattened over ``sizes``."""
    flat, indices = torch.zeros((), dtype=torch.int64), indices.to(torch.int64)
    for n, size in enumerate(sizes):
        flat = flat * size + _from_zero(indices.select(-1, n), size)
    return flat


def _from_zero(indices: Tensor, size: int) -> Tensor:
    """Return indices of which the negative ones count from the end of an axis, from 0 on."""
    return torch.where(indices < 0, indices + size, indices)


def _adds(node: OnnxNode) -> bool:
    """Return whether what is written is added; other reductions are refused."""
    mode = node.text("reduction", "none")
    if mode not in ("none", "add"):
        node.refuse(f"has reduction {mode!r}, which is not supported")
    return mode == "add"


def _repeated(node: OnnxNode, mode: str, size: int, before: int, after: int) -> list[int]:
    """Return which element each element of a padded axis repeats."""
    places = range(-before, size + after)
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in places]
    if mode == "wrap":
        return [place % size for place in places]
    if mode == "reflect":
        period = max(2 * (size - 1), 1)
        return [min(place % period, period - place % period) for place in places]
    node.refuse(f"has mode {mode!r}, which is not supported")
