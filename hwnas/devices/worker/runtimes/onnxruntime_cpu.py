"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, check_batch, fixed_shape, only_input


class OnnxModel:
    """A session on the CPU with bound input and outputs; threads wait without spinning."""

    def __init__(self, path: str, threads: int = 1, batch: int = 1) -> None:
        self._ort = import_onnxruntime()
        self.version: str = self._ort.__version__
        options = onnx_options(self._ort, threads)
        providers = ["CPUExecutionProvider"]
        try:
            self._session = self._ort.InferenceSession(path, options, providers=providers)
        except Exception as error:
            raise BadModel(path, error) from None
        if self._session.get_providers() != providers:
            raise RuntimeError(
                f"ONNX Runtime used {self._session.get_providers()}, expected {providers}"
            )
        self._input = only_input(path, self._session.get_inputs())
        self.input_shape = fixed_shape(self._input.shape, batch)
        check_batch(path, self.input_shape, batch)
        self._binding = self._session.io_binding()
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, "cpu")

    def set_input(self, array: Array) -> None:
        value = self._ort.OrtValue.ortvalue_from_numpy(onnx_array(array, self._input))
        self._binding.bind_ortvalue_input(self._input.name, value)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def output(self) -> Array:
        return np.array(self._binding.copy_outputs_to_cpu()[0])


def onnx_array(array: Array, tensor: Any) -> Array:
    """Return an array in the type of a session's input."""
    kind = tensor.type.removeprefix("tensor(").removesuffix(")")
    dtype = {"float": "float32", "double": "float64"}.get(kind, kind)
    return np.array(array, dtype=dtype, order="C")


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
