"""The outputs of an ONNX file in ONNX Runtime: the reference for files compiled from it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from hwnas.errors import ExportError
from hwnas.export.verification.metrics import Array, relative_error
from hwnas.export.verification.run_model import outputs_at_once
from hwnas.export.verification.sandbox import sandboxed_outputs

HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
MAX_COPIED_BYTES = 200 << 20
"""Largest file that is copied to run it in another form."""


class Reference:
    """Runs a file in a process of its own, since ONNX Runtime may crash on it.

    Floats of 16 bits are computed as float32, as in the compiled file.
    """

    def __init__(self, path: Path, model: ModelProto) -> None:
        self.path = path
        self.model, self.copy = model, _widened(model)
        """The model that is run instead of the file: a copy in float32 if the file has floats of 16
        bits, else None."""
        self.known: dict[bytes, dict[str, Array]] = {}

    def outputs(self, inputs: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        """Return the outputs for a batch of one at a time, ``[N, 1, ...]``."""
        key = b"".join(array.tobytes() for array in inputs)
        if key not in self.known:
            self.known[key] = _single_row(self._run(inputs, names))
        return self.known[key]

    def _run(self, inputs: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        """Run the file; a second time without the shapes of its outputs, which may be wrong."""
        try:
            with self._file() as path:
                return sandboxed_outputs(path, inputs, names)
        except ExportError:
            if self.path.stat().st_size > MAX_COPIED_BYTES or self.copy is not None:
                raise
            self.copy = _without_shapes(self.model)
            with self._file() as path, suppress(ExportError):
                return sandboxed_outputs(path, inputs, names)
            self.copy = None
            raise

    def batch(self, inputs: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        with self._file() as path:
            return outputs_at_once(path, inputs, names)

    def own_runs(
        self, samples: Iterable[Sequence[Array]], names: Sequence[str]
    ) -> Iterator[tuple[float, tuple[float, ...]]]:
        """Yield for each sample the difference of ONNX Runtime from itself without optimisations,
        and the largest value of each output of floats. A sample has one value for each input, with
        its batch.
        """
        import onnxruntime

        levels = onnxruntime.GraphOptimizationLevel
        sessions: list[Any] = []
        with self._file() as path:
            for level in (levels.ORT_DISABLE_ALL, levels.ORT_ENABLE_ALL):
                options = onnxruntime.SessionOptions()
                options.graph_optimization_level, options.log_severity_level = level, 4
                options.intra_op_num_threads = 1
                providers = ["CPUExecutionProvider"]
                sessions.append(onnxruntime.InferenceSession(str(path), options, providers))
        for sample in samples:
            values = dict(zip(names, sample, strict=True))
            results = zip(*(session.run(None, values) for session in sessions), strict=True)
            pairs = [pair for pair in results if pair[0].dtype.kind == "f" and pair[0].size]
            error = max((relative_error(*pair) for pair in pairs), default=0.0)
            yield error, tuple(float(np.abs(expected).max()) for _, expected in pairs)

    @contextmanager
    def _file(self) -> Iterator[Path]:
        if self.copy is None:
            yield self.path
            return
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / self.path.name
            onnx.save(self.copy, path)
            yield path


def _single_row(outputs: dict[str, Array]) -> dict[str, Array]:
    """Return a single output of floats with less than two axes as a row, as it is compiled."""
    [(name, values), *others] = outputs.items()
    if others or values.ndim >= 3 or values.dtype.kind != "f":
        return outputs
    return {name: values.reshape(len(values), 1, -1)}


def _without_shapes(model: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    return copy


def _widened(model: ModelProto) -> ModelProto | None:
    """Return a copy of a model with floats of 16 bits as float32; None if it has none."""
    if not any(tensor.data_type in HALF for tensor in model.graph.initializer):
        return None
    copy = ModelProto()
    copy.CopyFrom(model)
    _widen(copy.graph)
    return copy


def _widen(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in HALF:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in graph.node:
        for entry in node.attribute:
            if entry.type == AttributeProto.TENSOR:
                _widen_tensor(entry.t)
            elif entry.type == AttributeProto.GRAPH:
                _widen(entry.g)
            elif entry.name == "to" and entry.i in HALF:
                entry.i = TensorProto.FLOAT


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in HALF:
        array = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
