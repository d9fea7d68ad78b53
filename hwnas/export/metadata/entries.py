"""Named texts inside a model file, which runtimes ignore: what hwnas writes about a network.

An ONNX file has them in ``metadata_props``, a TFLite file in buffers of the model's ``metadata``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.errors import InvalidFile
from hwnas.export.recipe import format_of


def read_entry(path: Path, name: str) -> bytes | None:
    """Return the entry of that name, None if the file has none. Raises `InvalidFile`."""
    if not path.is_file():
        raise InvalidFile(str(path), "no such file")
    return _onnx_entry(path, name) if format_of(path) == "onnx" else _tflite_entry(path, name)


def _onnx_entry(path: Path, name: str) -> bytes | None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf may raise anything on bytes that are no model
        raise InvalidFile(str(path), f"not a readable .onnx model ({error})") from None
    return next((entry.value.encode() for entry in model.metadata_props if entry.key == name), None)


def _tflite_entry(path: Path, name: str) -> bytes | None:
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InvalidFile(str(path), "not a readable .tflite model (no identifier TFL3)")
    try:
        model = schema.Model.GetRootAs(data, 0)
        for number in range(model.MetadataLength()):
            entry = model.Metadata(number)
            if entry is not None and entry.Name() == name.encode():
                buffer: Any = model.Buffers(entry.Buffer())
                return bytes(buffer.DataAsNumpy())
    except Exception as error:  # offsets of a damaged file point anywhere
        raise InvalidFile(str(path), f"not a readable .tflite model ({error})") from None
    return None
