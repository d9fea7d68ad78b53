"""Element types of ONNX tensors, and constants as PyTorch's tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto
from torch import Tensor

from hwnas.errors import InvalidFile
from hwnas.export.onnx_reader.node import OnnxNode

DTYPES: dict[int, torch.dtype] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float32,
    TensorProto.BFLOAT16: torch.float32,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
    TensorProto.UINT16: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.UINT64: torch.int64,
}
"""The type in which values are computed: floats of 16 bits as float32, as in the compiled file."""


def type_name(kind: int) -> str:
    """Return the name of an element type in errors, e.g. ``float16``."""
    known = kind in TensorProto.DataType.values()
    return TensorProto.DataType.Name(kind).lower() if known else f"type {kind}"  # type: ignore[arg-type]


def torch_dtype(node: OnnxNode, kind: int) -> torch.dtype:
    if kind not in DTYPES:
        node.refuse(f"casts to {type_name(kind)}, which is not supported")
    return DTYPES[kind]


def constant_tensor(tensor: TensorProto, file: Path) -> Tensor:
    """Return a constant of ``file``; its data may lie in another file of the same folder."""
    return torch.from_numpy(_in_known_type(tensor, _array(tensor, file), file))


def _array(tensor: TensorProto, file: Path) -> Any:
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        raise InvalidFile(
            str(file), f"constant {tensor.name!r} is of type {type_name(tensor.data_type)}"
        )
    if tensor.data_location != TensorProto.EXTERNAL:
        try:
            return onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as error:
            raise InvalidFile(str(file), f"constant {tensor.name!r} is damaged ({error})") from None
    data = _external_bytes(tensor, file)
    inline = TensorProto(data_type=tensor.data_type, dims=tensor.dims, name=tensor.name)
    if tensor.data_type in NUMPY:
        dtype = np.dtype(NUMPY[tensor.data_type]).newbyteorder("<")
        if data.nbytes != dtype.itemsize * int(np.prod(tensor.dims, dtype=np.int64)):
            raise InvalidFile(
                str(file),
                f"the external data of {tensor.name!r} are {data.nbytes} bytes, expected "
                f"{dtype.itemsize} for each of {list(tensor.dims)}",
            )
        return data.view(dtype).reshape(tuple(tensor.dims))
    inline.raw_data = data.tobytes()
    return onnx.numpy_helper.to_array(inline)


NUMPY: dict[int, str] = {
    TensorProto.FLOAT: "f4",
    TensorProto.DOUBLE: "f8",
    TensorProto.FLOAT16: "f2",
    TensorProto.INT8: "i1",
    TensorProto.INT32: "i4",
    TensorProto.INT64: "i8",
    TensorProto.UINT8: "u1",
}


def _external_bytes(tensor: TensorProto, file: Path) -> Any:
    """Return the bytes of a constant in another file, which must lie in the folder of ``file``."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folders = {file.parent.resolve(), file.resolve().parent}
    path = file.parent / location
    inside = any(path.resolve().is_relative_to(folder) for folder in folders)
    if not location or Path(location).is_absolute() or ".." in Path(location).parts or not inside:
        raise InvalidFile(
            str(file),
            f"the data of {tensor.name!r} lie in {location!r}; expected a file in the same folder",
        )
    if not path.is_file():
        raise InvalidFile(str(file), f"its weights are in {location}, which is not beside it")
    size = path.stat().st_size
    offset = _number(entries.get("offset", "0"))
    length = _number(entries.get("length", str(size - offset)))
    if offset < 0 or length < 0 or offset + length > size:
        raise InvalidFile(
            str(file),
            f"the data of {tensor.name!r} end at byte {offset + length} of {location}, which has "
            f"{size}; was it copied completely?",
        )
    if not length:
        return np.zeros(0, np.uint8)
    return np.memmap(path, np.uint8, "r", offset, (length,))


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _in_known_type(tensor: TensorProto, array: Any, file: Path) -> Any:
    dtype = array.dtype
    if tensor.data_type in DTYPES:
        wanted = torch.empty((), dtype=DTYPES[tensor.data_type]).numpy().dtype
    elif dtype.name.startswith(("float", "bfloat")):
        wanted = np.dtype(np.float32)
    elif dtype.name.startswith(("int", "uint")):
        wanted = np.dtype(np.int8 if dtype.name.startswith("int") else np.uint8)
    else:
        raise InvalidFile(
            str(file), f"constant {tensor.name!r} is of type {type_name(tensor.data_type)}"
        )
    return np.array(array, dtype=wanted, order="C")  # PyTorch takes no read-only memory
