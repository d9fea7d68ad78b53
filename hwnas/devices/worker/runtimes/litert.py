"""LiteRT on the CPU: its interpreter, or a compiled model for more than one thread."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, fixed_shape, only_input

LITERT_PACKAGES = ("ai_edge_litert", "tflite_runtime", "tensorflow")


class LiteRtModel:
    """LiteRT's interpreter with one thread."""

    def __init__(self, path: str) -> None:
        interpreter, self.version = import_interpreter()
        try:
            with silenced_stderr():
                self._interpreter = interpreter(model_path=path, num_threads=1)
                self._interpreter.allocate_tensors()
        except Exception as error:
            raise BadModel(path, error) from None
        self._input = only_input(path, self._interpreter.get_input_details())
        self._output = self._interpreter.get_output_details()[0]
        self.input_shape = fixed_shape(self._input["shape"])

    def set_input(self, array: Array) -> None:
        self._interpreter.set_tensor(self._input["index"], quantised(array, self._input))

    def run(self) -> None:
        self._interpreter.invoke()

    def output(self) -> Array:
        return dequantised(self._interpreter.get_tensor(self._output["index"]), self._output)


class LiteRtThreadsModel(LiteRtModel):
    """LiteRT's compiled model, as the interpreter uses one thread only."""

    def __init__(self, path: str, threads: int) -> None:
        super().__init__(path)
        try:
            compiled = importlib.import_module("ai_edge_litert.compiled_model")
        except ImportError:
            raise RuntimeError(
                "LiteRT on more than one thread needs its compiled models: "
                'pip install "ai-edge-litert>=2.1"'
            ) from None
        options = compiled.Options(
            hardware_accelerators=compiled.HardwareAccelerator.CPU,
            cpu_options=compiled.CpuOptions(num_threads=threads),
        )
        try:
            with silenced_stderr():
                self._model = compiled.CompiledModel.from_file(path, options=options)
        except Exception as error:
            raise BadModel(path, error) from None
        self._inputs = self._model.create_input_buffers(0)
        self._outputs = self._model.create_output_buffers(0)

    def set_input(self, array: Array) -> None:
        self._inputs[0].write(quantised(array, self._input))

    def run(self) -> None:
        self._model.run_by_index(0, self._inputs, self._outputs)

    def output(self) -> Array:
        shape = fixed_shape(self._output["shape"])
        raw = self._outputs[0].read(math.prod(shape), self._output["dtype"])
        return dequantised(raw.reshape(shape), self._output)


@contextmanager
def silenced_stderr() -> Generator[None]:
    """Discard what native code writes to stderr: LiteRT prints messages on opening a model.

    No error is lost by that: errors come as exceptions.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(null)


def import_interpreter() -> tuple[Any, str]:
    """Return the interpreter class of the first installed package, and its version."""
    for package in LITERT_PACKAGES:
        try:
            if package == "tensorflow":
                module = importlib.import_module(package)
                return module.lite.Interpreter, f"{package} {module.__version__}"
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
        return module.Interpreter, f"{package} {importlib.import_module(package).__version__}"
    raise RuntimeError('LiteRT is not installed here: pip install "ai-edge-litert>=2.1"')


def quantised(array: Array, tensor: dict[str, Any]) -> Array:
    """Return numbers in the type of a tensor, given its details."""
    scale, zero = tensor["quantization"]
    if not scale:
        return np.array(array, dtype=tensor["dtype"], order="C")
    limits = np.iinfo(tensor["dtype"])
    steps: Array = np.rint(array / scale) + zero
    return steps.clip(limits.min, limits.max).astype(tensor["dtype"], order="C")


def dequantised(array: Array, tensor: dict[str, Any]) -> Array:
    """Return the numbers that the content of a tensor stands for."""
    scale, zero = tensor["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else np.array(array)
