"""LiteRT on the CPU: its interpreter, or a compiled model for more than one thread."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, InputTensor, fit
from hwnas.devices.worker.runtimes.refusals import refused

LITERT_PACKAGES = ("ai_edge_litert", "tflite_runtime", "tensorflow")


class LiteRtModel:
    """LiteRT's interpreter with one thread."""

    def __init__(self, path: str) -> None:
        interpreter, self.version = import_interpreter()
        self._path, self._runtime = path, f"LiteRT {self.version.rpartition(' ')[2]}"
        try:
            with silenced_stderr():
                self._interpreter = interpreter(model_path=path, num_threads=1)
                self._interpreter.allocate_tensors()
        except Exception as error:
            raise refused(path, error, self._runtime) from None
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()
        self.inputs = tuple(_input(path, tensor) for tensor in self._inputs)
        self.output_names = tuple(str(tensor["name"]) for tensor in self._outputs)

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        fit(self._path, self.inputs, arrays)
        shapes = [tuple(map(int, tensor["shape"])) for tensor in self._inputs]
        if shapes != [array.shape for array in arrays]:
            self._resize([array.shape for array in arrays])
        for tensor, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(tensor["index"], quantised(array, tensor))

    def run(self) -> None:
        self._interpreter.invoke()

    def outputs(self) -> list[Array]:
        return [
            dequantised(self._interpreter.get_tensor(tensor["index"]), tensor)
            for tensor in self._outputs
        ]

    def _resize(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Allocate the tensors for other sizes of the free axes."""
        try:
            with silenced_stderr():
                for tensor, shape in zip(self._inputs, shapes, strict=True):
                    self._interpreter.resize_tensor_input(tensor["index"], shape)
                self._interpreter.allocate_tensors()
        except Exception as error:
            raise BadModel(self._path, error) from None
        self._inputs = self._interpreter.get_input_details()


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
            raise refused(path, error, self._runtime) from None
        self._input_buffers = self._model.create_input_buffers(0)
        self._output_buffers = self._model.create_output_buffers(0)

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        fit(self._path, self.inputs, arrays)
        for buffer, tensor, array in zip(self._input_buffers, self._inputs, arrays, strict=True):
            if array.shape != tuple(tensor["shape"]):
                raise BadModel(self._path, "inputs of any size run on one thread only")
            buffer.write(quantised(array, tensor))

    def run(self) -> None:
        self._model.run_by_index(0, self._input_buffers, self._output_buffers)

    def outputs(self) -> list[Array]:
        outputs: list[Array] = []
        for buffer, tensor in zip(self._output_buffers, self._outputs, strict=True):
            shape = tuple(map(int, tensor["shape"]))
            raw = buffer.read(math.prod(shape), tensor["dtype"])
            outputs.append(dequantised(raw.reshape(shape), tensor))
        return outputs


@contextmanager
def silenced_stderr() -> Generator[None]:
    """Discard what native code writes to stderr: LiteRT prints messages on opening a model.

    Errors are not lost, as LiteRT raises them as exceptions.
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


def _input(path: str, tensor: dict[str, Any]) -> InputTensor:
    dtype = np.dtype(tensor["dtype"])
    if dtype.kind not in "fiub":
        raise BadModel(path, f"its input {tensor['name']} takes text; expected numbers")
    pairs = zip(tensor["shape"], tensor["shape_signature"], strict=True)
    shape = tuple("?" if stated < 0 else int(size) for size, stated in pairs)
    real = bool(tensor["quantization"][0])
    return InputTensor(str(tensor["name"]), shape, "float32" if real else dtype.name)


def quantised(array: Array, tensor: dict[str, Any]) -> Array:
    """Return numbers in the type of a tensor, given its details."""
    scale, zero = tensor["quantization"]
    if not scale:
        return np.array(array, dtype=tensor["dtype"], order="C")
    limits = np.iinfo(tensor["dtype"])
    steps: Array = np.rint(array / scale) + zero
    return steps.clip(limits.min, limits.max).astype(tensor["dtype"], order="C")


def dequantised(array: Array, tensor: dict[str, Any]) -> Array:
    """Return the real numbers that the quantised content of a tensor represents."""
    scale, zero = tensor["quantization"]
    return (array.astype(np.float32) - zero) * np.float32(scale) if scale else np.array(array)
