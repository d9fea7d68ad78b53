"""The architecture inside a model file: which blocks it is made of, and how they are wired.

ONNX: an entry of ``metadata_props``; TFLite: an entry of the model's ``metadata`` and its buffer.
Both are called `NAME` and hold the same JSON. Runtimes pass over it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import InvalidFile, UsageError

NAME = "hwnas.architecture"


class Embedded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is written: block keys are enough to build and to predict it again."""

    input_shape: tuple[int, int, int]
    num_classes: int
    blocks: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    """As in `Architecture`; empty: a chain."""
    space: str = ""
    choices: tuple[int, ...] = ()


def notes_of(architecture: Architecture) -> dict[str, bytes]:
    """Return what to write into a file of ``architecture``."""
    said = Embedded(
        input_shape=architecture.input_shape,
        num_classes=architecture.num_classes,
        blocks=tuple(block.key for block in architecture.blocks),
        inputs=architecture.inputs,
        space=architecture.genotype.space,
        choices=architecture.genotype.choices,
    )
    return {NAME: msgspec.json.encode(said)}


def read_embedded(path: Path) -> Architecture:
    """Return the architecture of a model file. Raises `InvalidFile` for one without."""
    if not path.is_file():
        raise InvalidFile(str(path), "no such file")
    data = _onnx_note(path) if path.suffix == ".onnx" else _tflite_note(path)
    if data is None:
        raise InvalidFile(
            str(path), "does not say which blocks it is made of: hwnas did not write it, or an "
            "older version did; give the architecture's JSON or the run folder"
        )  # fmt: skip
    try:
        said = msgspec.json.decode(data, type=Embedded)
        return Architecture(
            Genotype(said.space, said.choices),
            tuple(map(Block.from_key, said.blocks)),
            said.input_shape,
            said.num_classes,
            said.inputs,
        )
    except (msgspec.DecodeError, UsageError) as error:
        raise InvalidFile(str(path), f"{NAME}: {error}") from None


def _onnx_note(path: Path) -> bytes | None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # whatever protobuf makes of bytes that are no model
        raise InvalidFile(str(path), f"not a readable .onnx model ({error})") from None
    found = [one.value for one in model.metadata_props if one.key == NAME]
    return found[0].encode() if found else None


def _tflite_note(path: Path) -> bytes | None:
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InvalidFile(str(path), "not a readable .tflite model (no TFL3 mark)")
    try:
        model = schema.Model.GetRootAs(data, 0)
        for number in range(model.MetadataLength()):
            entry = model.Metadata(number)
            if entry is not None and entry.Name() == NAME.encode():
                buffer: Any = model.Buffers(entry.Buffer())
                return bytes(buffer.DataAsNumpy())
    except Exception as error:  # offsets of a file that was cut lead anywhere
        raise InvalidFile(str(path), f"not a readable .tflite model ({error})") from None
    return None
