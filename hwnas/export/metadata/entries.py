"""Named texts inside a model file, which runtimes ignore: what hwnas writes about a network.

An ONNX file has them in ``metadata_props``, a TFLite file in buffers of the model's ``metadata``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwnas.devices.worker.runtimes.refusals import damage
from hwnas.errors import InvalidFile
from hwnas.export.recipe import format_of
from hwnas.export.tflite.flatbuffer import IDENTIFIER, repacked
from hwnas.files import read_bytes


def read_entry(path: Path, name: str) -> bytes | None:
    """Return the entry of that name, None if the file has none. Raises `InvalidFile`."""
    if format_of(path) == "onnx":
        entries = {entry.key: entry.value for entry in read_onnx(path).metadata_props}
        return entries[name].encode() if name in entries else None
    with readable(path):
        return _tflite_entry(read_tflite(path), name.encode())


def write_entries(path: Path, entries: Mapping[str, bytes]) -> None:
    """Add entries to a file of another program; those of the same names are replaced."""
    if not entries:
        return
    if format_of(path) == "onnx":
        import onnx

        model = read_onnx(path)
        texts = {entry.key: entry.value for entry in model.metadata_props}
        texts |= {name: text.decode() for name, text in entries.items()}
        onnx.helper.set_model_props(model, texts)
        path.write_bytes(model.SerializeToString(deterministic=True))
    else:
        _add_to_tflite(path, entries)


def read_onnx(path: Path) -> Any:
    """Return the ``ModelProto`` of an ONNX file. Raises `InvalidFile`."""
    import onnx

    _check_file(path)
    with readable(path):
        return onnx.load(str(path), load_external_data=False)


def read_tflite(path: Path) -> Any:
    """Return the ``Model`` of a TFLite file; see `readable`. Raises `InvalidFile`."""
    from ai_edge_litert import schema_py_generated as schema

    _check_file(path)
    data = read_bytes(path)
    if data[4:8] != IDENTIFIER:
        raise InvalidFile(str(path), f"not a readable .tflite model ({damage(str(path))})")
    return schema.Model.GetRootAs(data, 0)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise `InvalidFile` for any error of the body: offsets of a damaged file point anywhere."""
    try:
        yield
    except InvalidFile:
        raise
    except Exception:
        raise InvalidFile(
            str(path), f"not a readable {path.suffix} model ({damage(str(path))})"
        ) from None


def _add_to_tflite(path: Path, entries: Mapping[str, bytes]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    others = [entry for entry in model.metadata or [] if entry.name.decode() not in entries]
    for name, content in entries.items():
        buffer, entry = schema.BufferT(), schema.MetadataT()
        buffer.data, entry.name, entry.buffer = list(content), name, len(model.buffers)
        model.buffers.append(buffer)
        others.append(entry)
    model.metadata = others
    path.write_bytes(repacked(model, path.stat().st_size))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise InvalidFile(str(path), "no such file")


def _tflite_entry(model: Any, name: bytes) -> bytes | None:
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        if entry is not None and entry.Name() == name:
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return None
