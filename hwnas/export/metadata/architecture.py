"""The architecture inside a model file: its blocks, and how they are connected.

It is JSON under the key `NAME`, in ONNX in ``metadata_props``, in TFLite in a buffer of the model's
``metadata``. Runtimes ignore it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hwnas.architecture.architecture import NORM_EPS, Architecture, Block, Genotype
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.recipe import format_of

NAME = "hwnas.architecture"


class EmbeddedArchitecture(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The JSON; block keys are enough to build the network and to predict its latency."""

    input_shape: tuple[int, int, int]
    num_classes: int
    blocks: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    """As in `Architecture`; empty for a chain."""
    space: str = ""
    choices: tuple[int, ...] = ()
    norm_eps: float = NORM_EPS


def architecture_metadata(architecture: Architecture) -> dict[str, bytes]:
    """Return the metadata entry that describes ``architecture``."""
    content = EmbeddedArchitecture(
        input_shape=architecture.input_shape,
        num_classes=architecture.num_classes,
        blocks=tuple(block.key for block in architecture.blocks),
        inputs=architecture.inputs,
        space=architecture.genotype.space,
        choices=architecture.genotype.choices,
        norm_eps=architecture.norm_eps,
    )
    return {NAME: msgspec.json.encode(content)}


def read_embedded(path: Path) -> Architecture:
    """Return the architecture inside a model file. Raises `InvalidFile` if there is none."""
    if not path.is_file():
        raise InvalidFile(str(path), "no such file")
    data = _onnx_entry(path) if format_of(path) == "onnx" else _tflite_entry(path)
    if data is None:
        raise InvalidFile(
            str(path),
            "does not contain its architecture, because hwnas did not write it; give the JSON of "
            "the architecture or the run folder",
        )
    try:
        content = msgspec.json.decode(data, type=EmbeddedArchitecture)
        return Architecture(
            Genotype(content.space, content.choices),
            tuple(map(Block.from_key, content.blocks)),
            content.input_shape,
            content.num_classes,
            content.inputs,
            content.norm_eps,
        )
    except (msgspec.DecodeError, UsageError) as error:
        raise InvalidFile(str(path), f"{NAME}: {error}") from None


def _onnx_entry(path: Path) -> bytes | None:
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf may raise anything on bytes that are no model
        raise InvalidFile(str(path), f"not a readable .onnx model ({error})") from None
    return next((entry.value.encode() for entry in model.metadata_props if entry.key == NAME), None)


def _tflite_entry(path: Path) -> bytes | None:
    from ai_edge_litert import schema_py_generated as schema

    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise InvalidFile(str(path), "not a readable .tflite model (no identifier TFL3)")
    try:
        model = schema.Model.GetRootAs(data, 0)
        for number in range(model.MetadataLength()):
            entry = model.Metadata(number)
            if entry is not None and entry.Name() == NAME.encode():
                buffer: Any = model.Buffers(entry.Buffer())
                return bytes(buffer.DataAsNumpy())
    except Exception as error:  # offsets of a damaged file point anywhere
        raise InvalidFile(str(path), f"not a readable .tflite model ({error})") from None
    return None
