"""Locates the first layer of a file that differs from PyTorch, by bisection.

The file is cut after one of its tensors and run in its runtime, and that tensor is compared. Once a
difference has appeared it stays, so bisection finds the first one in few steps.
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Precision
from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.trace import traced_values
from hwnas.export.recipe import find_recipe, format_of
from hwnas.export.tflite.flatbuffer import repacked
from hwnas.export.verification.metrics import Array, relative_error
from hwnas.export.verification.run_model import outputs_at_once

VANISHED = 1e-9
"""Share of the largest value below which a value is not compared in the place of the outputs: what
is left of a signal that vanishes from layer to layer is mostly rounding, denormal in the end."""

ROUNDED_ERROR = 0.5
"""Relative error from which a value counts as different in a file of weights of 8 bits."""

MAX_IMAGES = 4
"""Number of inputs on which a difference is searched for."""


class Difference(NamedTuple):
    """The first tensor that differs."""

    name: str
    relative_error: float


def first_difference(
    path: Path, module: nn.Module, interface: Interface, inputs: Sequence[Array], limit: float
) -> Difference | None:
    """Return the first tensor of a float file whose relative error is above ``limit``.

    ``inputs`` have a batch of one. None if no tensor differs, or if no tensor of the file has the
    name of a value in the graph.
    """
    values = traced_values(module, interface, inputs)
    computed = _tensor_names(path)
    names = [name for name in values if name in computed]

    def error(name: str) -> float:
        outputs = tensor_value(path, name, inputs, interface)
        if outputs.shape != values[name].shape or not np.isfinite(outputs).all():
            return float("inf")
        return relative_error(outputs, values[name])

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


def tensor_value(path: Path, name: str, inputs: Sequence[Array], interface: Interface) -> Array:
    """Return the value of the tensor ``name`` of a file for ``inputs`` with a batch of one."""
    with tempfile.TemporaryDirectory() as folder:
        cut = Path(folder) / f"cut{path.suffix}"
        _cut(path, name, cut)
        return next(iter(outputs_at_once(cut, inputs, interface.input_names).values()))


@contextmanager
def locate_difference(
    path: Path,
    module: nn.Module,
    interface: Interface,
    inputs: Sequence[Array],
    precision: Precision = "fp32",
) -> Generator[None]:
    """Add the first tensor that differs to an `ExportError` raised by a comparison of outputs."""
    try:
        yield
    except ExportError as error:
        difference, limit = None, _limit(path, precision)
        with suppress(ExportError):
            for place in range(min(MAX_IMAGES, len(inputs[0]))):
                single = [array[place : place + 1] for array in inputs]
                difference = difference or first_difference(path, module, interface, single, limit)
        if difference is None:
            raise
        raise ExportError(
            f"{error}; the first tensor that differs is {difference.name}, by "
            f"{difference.relative_error:.3g} of its largest value"
        ) from error


def check_hidden_values(
    path: Path,
    module: nn.Module,
    interface: Interface,
    inputs: Sequence[Array],
    precision: Precision = "fp32",
) -> None:
    """Compare a value inside a file whose outputs are the same for every input.

    Such outputs, as those of a last layer of zeros, do not depend on the layers before. Compared is
    the last value that differs between two inputs and has not `VANISHED`. Raises `ExportError` if
    it differs.
    """
    if len(inputs[0]) < 2:
        return
    first, second = ([array[place : place + 1] for array in inputs] for place in (0, 1))
    values, others = (traced_values(module, interface, each) for each in (first, second))
    computed = _tensor_names(path)
    limit = _limit(path, precision)
    largest = {name: np.abs(value).max(initial=0.0) for name, value in values.items()}
    least = VANISHED * max(largest.values(), default=0.0)
    varying = [
        name
        for name in values
        if name in computed
        and largest[name] >= least
        and not np.array_equal(values[name], others[name])
    ]
    if varying:
        value = tensor_value(path, varying[-1], first, interface)
        if value.shape != values[varying[-1]].shape or not (
            relative_error(value, values[varying[-1]]) <= limit
        ):
            raise ExportError(f"{path}: the value {varying[-1]} differs from PyTorch")


def _limit(path: Path, precision: Precision) -> float:
    return find_recipe(format_of(path), precision).max_relative_error or ROUNDED_ERROR


def _tensor_names(path: Path) -> set[str]:
    """Return the names of the tensors that a file computes."""
    if format_of(path) == "onnx":
        import onnx

        return {name for node in onnx.load(path).graph.node for name in node.output}
    graph = _unpack(path).subgraphs[0]
    return {graph.tensors[index].name.decode() for op in graph.operators for index in op.outputs}


def _cut(path: Path, name: str, target: Path) -> None:
    """Write the file to ``target`` with tensor ``name`` as its only output."""
    if format_of(path) == "onnx":
        import onnx

        model = onnx.load(path)
        del model.graph.output[:]
        value = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        model.graph.output.append(value)
        target.write_bytes(model.SerializeToString())
        return
    model = _unpack(path)
    graph = model.subgraphs[0]
    output = [tensor.name for tensor in graph.tensors].index(name.encode())
    last = next(n for n, op in enumerate(graph.operators) if output in list(op.outputs))
    graph.operators, graph.outputs = graph.operators[: last + 1], [output]
    model.signatureDefs = []
    target.write_bytes(repacked(model))


def _unpack(path: Path) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    try:
        return schema.ModelT.InitFromPackedBuf(path.read_bytes())
    except Exception as error:  # offsets of a damaged file point anywhere
        raise ExportError(f"{path}: not a readable .tflite model ({error})") from None
