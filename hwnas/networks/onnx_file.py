"""Loads an ONNX file of any origin as a network for the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from onnx import TensorProto

from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.interface import InputShapes, Interface, ModuleInput, parse_shape
from hwnas.export.graph.nodes import DType
from hwnas.export.onnx_reader.element_types import type_name
from hwnas.export.onnx_reader.network import OnnxInput, OnnxNetwork

KINDS: dict[int, DType] = {
    **dict.fromkeys(
        (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16),
        "float32",
    ),
    TensorProto.INT64: "int64",
    TensorProto.INT32: "int32",
    TensorProto.UINT8: "uint8",
    TensorProto.BOOL: "bool",
}
"""Type of a compiled file's input by the type in the ONNX file."""


def load_onnx(
    path: Path, shapes: InputShapes | None = None, output_names: Sequence[str] = ()
) -> tuple[OnnxNetwork, Interface]:
    """Return the network of an ONNX file and its inputs, under the names of the file.

    ``shapes``, without the batch, are needed for free axes other than the batch, which is 1. Raises
    `UsageError` for shapes that are missing or contradict the file, `InvalidFile` for a damaged
    file, and `ExportError` for an operator that cannot be read.
    """
    try:
        network = OnnxNetwork(path)
    except ExportError as error:
        raise ExportError(f"{path}: {error}") from error
    given = _given(path, network.inputs, shapes)
    batches = {axis for value in network.inputs for axis in value.free[:1] if axis}
    inputs = tuple(
        _input(path, value, given.get(value.name), batches, len(network.inputs))
        for value in network.inputs
    )
    if not inputs:
        raise UsageError(f"{path}: takes no input; there is nothing to compile")
    return network, Interface(inputs, tuple(output_names) or tuple(network.output_names))


def _given(
    path: Path, inputs: Sequence[OnnxInput], shapes: InputShapes | None
) -> dict[str, tuple[int, ...]]:
    if shapes is None:
        return {}
    names = [value.name for value in inputs]
    if isinstance(shapes, Mapping):
        pairs: list[Any] = list(shapes.items())
        unknown = [name for name in shapes if name not in names]
        if unknown:
            raise UsageError(f"{path} has no input {unknown[0]!r}; its inputs: {', '.join(names)}")
    else:
        single = isinstance(shapes, str) or all(isinstance(size, int) for size in shapes)
        listed: Any = [shapes] if single else list(shapes)
        if len(listed) > len(names):
            raise UsageError(
                f"{path} takes {len(names)} inputs ({', '.join(names)}), {len(listed)} shapes are "
                "given"
            )
        pairs = list(zip(names, listed, strict=False))
    return {name: _sizes(path, shape) for name, shape in pairs}


def _sizes(path: Path, shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, str):
        return tuple(shape)
    parsed = parse_shape(shape)
    if parsed is None:
        raise UsageError(f"{path}: {shape!r} is no shape; expected e.g. 3x224x224")
    return parsed[0]


def _input(
    path: Path, value: OnnxInput, given: tuple[int, ...] | None, batches: set[str], count: int
) -> ModuleInput:
    dtype = KINDS.get(value.kind)
    if dtype is None:
        raise UsageError(
            f"{path}: the input {value.name} is of {type_name(value.kind)}; expected "
            f"{', '.join(get_args(DType))}"
        )
    name = "" if count == 1 else f"{value.name}="
    if value.shape is None:
        if given is None:
            raise UsageError(
                f"{path}: states no shape of its input {value.name}; give it without the batch, "
                f"e.g. --input-shape {name}3x224x224"
            )
        return ModuleInput(value.name, (1, *given), dtype)
    sizes = list(value.shape)
    is_batch = [place == 0 or axis in batches for place, axis in enumerate(value.free)]
    sizes = [1 if size is None and batch else size
             for size, batch in zip(sizes, is_batch, strict=True)]  # fmt: skip
    stated = sizes[1:] if sizes[:1] == [1] else sizes
    if given is not None:
        fits = len(given) == len(stated) and all(
            size in (None, other) for size, other in zip(stated, given, strict=True)
        )
        if not fits:
            raise UsageError(
                f"{path} takes {value.name} of shape {_text(value, stated)}, not "
                f"{'x'.join(map(str, given))}"
            )
        stated = list(given)
    elif None in stated:
        example = "x".join("224" if size is None else str(size) for size in stated)
        raise UsageError(
            f"{path} takes {value.name} of any size, {_text(value, stated)}; expected "
            f"--input-shape, e.g. {name}{example}"
        )
    whole = (1, *stated) if sizes[:1] == [1] else tuple(stated)
    return ModuleInput(value.name, tuple(int(size or 1) for size in whole), dtype)


def _text(value: OnnxInput, sizes: Sequence[int | None]) -> str:
    """Return sizes as text, free ones by their names."""
    names = value.free[len(value.free) - len(sizes) :]
    pairs = zip(sizes, names, strict=True)
    return "x".join(str(size) if size is not None else name or "?" for size, name in pairs)
