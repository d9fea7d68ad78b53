"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, InputTensor, fit
from hwnas.devices.worker.runtimes.refusals import refused

NUMPY_TYPES = {
    **{"float": "float32", "double": "float64", "float16": "float16", "bool": "bool"},
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Names in numpy of the types of a session's tensors."""


class OnnxModel:
    """A session on the CPU with bound inputs and outputs; threads wait without spinning."""

    def __init__(self, path: str, threads: int = 1) -> None:
        self._ort, self._path = import_onnxruntime(), path
        self.version: str = self._ort.__version__
        options = onnx_options(self._ort, threads)
        providers = ["CPUExecutionProvider"]
        try:
            self._session = self._ort.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise refused(path, error, f"ONNX Runtime {self.version}") from None
        if self._session.get_providers() != providers:
            raise RuntimeError(
                f"ONNX Runtime used {self._session.get_providers()}, expected {providers}"
            )
        self.inputs = onnx_inputs(path, self._session)
        outputs = self._session.get_outputs()
        self.output_names = tuple(output.name for output in outputs)
        self._bound = all(output.type.startswith("tensor(") for output in outputs)
        self._binding = self._session.io_binding()
        if self._bound:
            for output in outputs:
                self._binding.bind_output(output.name, "cpu")
        self._feed: dict[str, Array] = {}
        self._returned: list[Any] = []

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        self._feed = onnx_feed(self._path, self.inputs, arrays)
        if self._bound:
            for name, array in self._feed.items():
                value = self._ort.OrtValue.ortvalue_from_numpy(array)
                self._binding.bind_ortvalue_input(name, value)

    def run(self) -> None:
        if self._bound:
            self._session.run_with_iobinding(self._binding)
        else:  # sequences and maps cannot be bound
            self._returned = self._session.run(None, self._feed)

    def outputs(self) -> list[Array]:
        values = self._binding.copy_outputs_to_cpu() if self._bound else self._returned
        return [np.array(value) for value in values]


def onnx_inputs(path: str, session: Any) -> tuple[InputTensor, ...]:
    """Return the inputs of a session. Raises `BadModel` for one that takes no numbers."""
    inputs: list[InputTensor] = []
    for tensor in session.get_inputs():
        kind = str(tensor.type).removeprefix("tensor(").removesuffix(")")
        if kind not in NUMPY_TYPES:
            what = "text" if kind == "string" else kind
            expected = "expected floats of 16, 32 or 64 bits, integers or booleans"
            raise BadModel(path, f"its input {tensor.name} takes {what}; {expected}")
        shape = tuple(size if isinstance(size, int) else size or "?" for size in tensor.shape)
        inputs.append(InputTensor(tensor.name, shape, NUMPY_TYPES[kind]))
    return tuple(inputs)


def onnx_feed(
    path: str, inputs: Sequence[InputTensor], arrays: Sequence[Array]
) -> dict[str, Array]:
    """Return copies of arrays in the types of a session's inputs, by name."""
    fit(path, inputs, arrays)
    return {
        tensor.name: np.array(array, dtype=tensor.dtype, order="C")
        for tensor, array in zip(inputs, arrays, strict=True)
    }


def onnx_options(ort: Any, threads: int) -> Any:
    """Return the options of all sessions: sequential, quiet, without spinning threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def import_onnxruntime() -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise RuntimeError(
            'ONNX Runtime is not installed here: pip install "onnxruntime>=1.18"'
        ) from None
