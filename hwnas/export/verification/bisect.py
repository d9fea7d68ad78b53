"""Which layer of a file is the first that differs from PyTorch?

The file is cut after one of its tensors, runs in its runtime, and that tensor is compared. A
difference that has appeared stays, so that halving finds the first in few steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError
from hwnas.export.graph.trace import traced_values
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.metrics import Array, relative_error
from hwnas.export.verification.run_model import file_outputs

IMAGES = 4
"""A difference is looked for in at most so many."""


class Difference(NamedTuple):
    """The first tensor that differs."""

    name: str
    relative_error: float


def first_difference(
    path: Path, format: Format, module: nn.Module, image: Array, limit: float
) -> Difference | None:
    """Return the first tensor of a float file that differs by more than ``limit`` of its largest.

    ``image`` is ``[C, H, W]``, normalised. None if none does, or none of its tensors is known.
    """
    channels, height, width = image.shape
    values = traced_values(module, (channels, height, width), torch.from_numpy(image.copy()))
    names = [name for name in values if name in _tensors(path, format)]

    def error(name: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            cut = Path(folder) / f"cut.{format}"
            _cut(path, format, name, cut)
            got = file_outputs(cut, format, image[None])
        expected = values[name]
        if got.shape != expected.shape or not np.isfinite(got).all():
            return float("inf")
        return relative_error(got, expected)

    low, high = 0, len(names) - 1
    if not names or error(names[high]) <= limit:
        return None
    while low < high:
        middle = (low + high) // 2
        if error(names[middle]) <= limit:
            low = middle + 1
        else:
            high = middle
    return Difference(names[high], error(names[high]))


@contextmanager
def located(path: Path, format: Format, module: nn.Module, images: Array) -> Generator[None]:
    """Add to an `ExportError` of comparing outputs which tensor is the first that differs."""
    try:
        yield
    except ExportError as error:
        found, limit = None, find_recipe(format).max_relative_error or 0.0
        with suppress(ExportError):
            for image in images[:IMAGES]:
                found = found or first_difference(path, format, module, image, limit)
        if found is None:
            raise
        raise ExportError(
            f"{error}; the first tensor that differs is {found.name}, by "
            f"{found.relative_error:.3g} of its largest"
        ) from error


def _tensors(path: Path, format: Format) -> set[str]:
    """Return the names of what a file computes."""
    if format == "onnx":
        import onnx

        return {name for node in onnx.load(path).graph.node for name in node.output}
    graph = _unpacked(path).subgraphs[0]
    return {graph.tensors[at].name.decode() for op in graph.operators for at in op.outputs}


def _cut(path: Path, format: Format, name: str, to: Path) -> None:
    """Write the file again with ``name`` as its only output."""
    if format == "onnx":
        import onnx

        model = onnx.load(path)
        del model.graph.output[:]
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(value)
        to.write_bytes(model.SerializeToString())
        return
    import flatbuffers

    model = _unpacked(path)
    graph = model.subgraphs[0]
    place = next(at for at, tensor in enumerate(graph.tensors) if tensor.name == name.encode())
    last = next(at for at, op in enumerate(graph.operators) if place in list(op.outputs))
    graph.operators, graph.outputs = graph.operators[: last + 1], [place]
    model.signatureDefs = []
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    to.write_bytes(bytes(builder.Output()))


def _unpacked(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    try:
        return schema.ModelT.InitFromPackedBuf(path.read_bytes())
    except Exception as error:  # offsets of a damaged file lead anywhere
        raise ExportError(f"{path}: not a readable .tflite model ({error})") from None
