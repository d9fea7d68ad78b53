"""Operations that overwrite a tensor: every tensor that shares its memory gets a new value.

A tensor that shares memory is derived from another by a view. An operation on it computes a new
tensor, which is put back into the tensor that owns the memory; all others are derived again when
they are read next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.export.graph.recording import schema_of
from hwnas.export.graph.tensor import TracedTensor, resize

KEEPS_ORDER = {
    *("view", "reshape", "_unsafe_view", "flatten", "unflatten", "alias", "detach", "contiguous"),
    *("squeeze", "unsqueeze", "to", "expand", "_reshape_alias"),
}
"""Views that have all elements, in the same order."""
RESHAPES = {"squeeze_", "unsqueeze_", "transpose_", "t_", "swapaxes_", "swapdims_"}
"""Operations in place that make a tensor another view of the same memory."""
TRANSPOSES = {"transpose": ("dim0", "dim1"), "t": ()}


class WritesIntoConstant(ExportError):
    """A network that writes a computed value into a tensor that was not traced."""


def overwrite(place: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute an in-place operation as its functional form and return the overwritten tensor."""
    target = args[0] if args else None
    op = schema_of(func).op
    if not isinstance(target, TracedTensor):
        raise WritesIntoConstant(
            f"{place}Tensor.{op} writes a value that depends on the input into a tensor that the "
            "network keeps, so that outputs depend on the inputs before; make it an input and an "
            "output of the network, or write to a clone()"
        )
    if op == "detach_":
        return target
    if op in RESHAPES:
        _reshape(place, func, target, args, kwargs)
        return target
    new = _functional(place, func, op, target, args, kwargs)
    if new.shape != target.shape:
        raise ExportError(f"{place}Tensor.{op} in place changes the shape of its tensor")
    _assign(place, target, new)
    return target


def refresh(tensor: TracedTensor) -> None:
    """Bring ``tensor`` up to date with the memory that it shares."""
    if tensor.base is None:
        return
    parent, derive, _, _ = tensor.base
    refresh(parent)
    if tensor.version != parent.version:
        derived = derive(parent)
        tensor.data_, tensor.value, tensor.version = derived.data_, derived.value, parent.version


def _functional(
    place: str, func: Any, op: str, target: TracedTensor, args: Any, kwargs: Any
) -> TracedTensor:
    if op == "copy_" or (op == "fill_" and isinstance(args[1], torch.Tensor)):
        source = args[1].to(target.dtype).expand(target.shape)
        return (
            source
            if isinstance(source, TracedTensor)
            else TracedTensor(source, None, target.tracer)
        )
    if op in ("fill_", "zero_"):
        return torch.full_like(target, args[1] if op == "fill_" else 0)  # type: ignore[return-value]
    packet = getattr(torch.ops.aten, op.removesuffix("_"), None)
    name = "int" if op in ("transpose_", "swapaxes_", "swapdims_") else func._overloadname
    overload = getattr(packet, name, None)
    if not op.endswith("_") or overload is None:
        raise ExportError(f"{place}aten.{op} overwrites a tensor in an unknown way")
    return overload(*args, **kwargs)


def _reshape(place: str, func: Any, target: TracedTensor, args: Any, kwargs: Any) -> None:
    """Make ``target`` a view of its former value."""
    refresh(target)
    before = TracedTensor(target.data_, target.value, target.tracer)
    before.base, before.version = target.base, target.version
    new = _functional(place, func, schema_of(func).op, before, (before, *args[1:]), kwargs)
    resize(target, func, args[1:], kwargs)
    target.data_, target.value, target.base = new.data_, new.value, new.base
    target.version = new.version


def _assign(place: str, target: TracedTensor, new: TracedTensor) -> None:
    while target.base is not None:
        parent, _, op, args = target.base
        refresh(parent)
        new = _put_back(place, parent, new, op, args)
        target = parent
    target.data_, target.value = new.data_, new.value
    target.version += 1


def _put_back(
    place: str, parent: TracedTensor, part: TracedTensor, op: str, args: dict[str, Any]
) -> Any:
    """Return ``parent`` with new elements where ``part`` views them."""
    rank, index = parent.dim(), args["index_"]
    if op in KEEPS_ORDER and parent.numel() == part.numel():
        return part.reshape(parent.shape)
    if op == "permute":
        order = [dim % rank for dim in args["dims"]]
        return part.permute(sorted(range(rank), key=order.__getitem__))
    if op in TRANSPOSES:
        names = TRANSPOSES[op]
        return part.transpose(*((args[name] for name in names) if names else (0, 1)))
    if op == "slice":
        chosen = slice(args["start"], args["end"], args["step"])
        places = range(*chosen.indices(parent.shape[args["dim"]]))
        if places.step == 1:
            return _spliced(parent, part, args["dim"], places.start)
        return _woven(parent, part, args["dim"], places)
    if op in ("select", "unbind"):
        dim = args["dim"]
        begin = (args["index"] if op == "select" else index) % parent.shape[dim]
        return _spliced(parent, part.unsqueeze(dim), dim, begin)
    if op in ("split", "split_with_sizes", "chunk"):
        return _spliced(parent, part, args["dim"], _piece_begin(parent, op, args, index))
    raise ExportError(
        f"{place}an operation in place writes through Tensor.{op} into another tensor, "
        "which is not supported; write to a clone() instead"
    )


def _spliced(parent: Tensor, part: Tensor, dim: int, begin: int) -> Tensor:
    end, size = begin + part.shape[dim], parent.shape[dim]
    before, after = parent.narrow(dim, 0, begin), parent.narrow(dim, end, size - end)
    return torch.cat([piece for piece in (before, part, after) if piece.shape[dim]], dim)


def _woven(parent: Tensor, part: Tensor, dim: int, places: range) -> Tensor:
    """Return ``parent`` with ``part`` at some places of an axis."""
    source = torch.arange(parent.shape[dim])
    source[list(places)] = parent.shape[dim] + torch.arange(len(places))
    return torch.cat((parent, part), dim).index_select(dim, source)


def _piece_begin(parent: Tensor, op: str, args: dict[str, Any], index: Any) -> int:
    names = ("split_sizes", "split_size", "split_size_or_sections")
    sizes: Any = next((args[name] for name in names if name in args), None)
    if op == "chunk":
        sizes = -(-parent.shape[args["dim"]] // args["chunks"])
    return index * sizes if isinstance(sizes, int) else sum(sizes[:index])
