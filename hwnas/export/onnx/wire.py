"""The bytes of an ONNX file in pieces, so that no weight is copied.

The pieces are what protobuf's own deterministic serialisation gives: the fields of every message
in the order of their numbers, and each weight as a field of bytes that follows its description.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hwnas.errors import ExportError

MODEL_GRAPH, GRAPH_INITIALIZER, TENSOR_RAW_DATA = 7, 5, 9
"""Numbers of the fields ``ModelProto.graph``, ``GraphProto.initializer`` and
``TensorProto.raw_data``."""

MAX_BYTES = 2**31 - 1
"""Protobuf reads no larger message."""


def serialised(model: Any, graph: Any, weights: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the bytes of ``model``, which has no graph yet, with ``graph`` and its ``weights``.

    Raises `ExportError` before the first piece for a file that is too large to be read.
    """
    before, after = _split(model, MODEL_GRAPH)
    first, last = _split(graph, GRAPH_INITIALIZER)
    described = [(_described(name, values), values) for name, values in weights.items()]
    size = len(first) + len(last)
    for header, values in described:
        length = len(header) + values.nbytes
        size += len(_prefix(GRAPH_INITIALIZER, length)) + length
    if size > MAX_BYTES:
        raise ExportError(f"{size / 1e9:.2f} GB are more than the 2 GiB of an .onnx file")
    yield before + _prefix(MODEL_GRAPH, size) + first
    for header, values in described:
        yield _prefix(GRAPH_INITIALIZER, len(header) + values.nbytes) + header
        stored = values.astype(values.dtype.newbyteorder("<"), copy=False)
        yield np.ascontiguousarray(stored).reshape(-1).view(np.uint8).data
    yield last + after


def _split(message: Any, number: int) -> tuple[bytes, bytes]:
    """Return the fields of a message before and after the field of that number."""
    before, after = type(message)(), type(message)()
    before.CopyFrom(message)
    after.CopyFrom(message)
    for field, _ in message.ListFields():
        (after if field.number < number else before).ClearField(field.name)
    return _bytes(before), _bytes(after)


def _described(name: str, values: Any) -> bytes:
    """Return a tensor but for its values, which follow."""
    from onnx import TensorProto, helper

    dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor = TensorProto(name=name, data_type=dtype, dims=values.shape)
    return _bytes(tensor) + _prefix(TENSOR_RAW_DATA, values.nbytes)


def _bytes(message: Any) -> bytes:
    return message.SerializeToString(deterministic=True)


def _prefix(number: int, length: int) -> bytes:
    """Return the tag of a field of bytes, and their number."""
    return _varint(number << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    """Return an integer, seven bits in each byte, the lowest first."""
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])
