"""Peak memory of a model file: that of a process that runs it, less that of an empty process."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.runner import InputShape
from hwnas.devices.worker.model import input_shapes
from hwnas.devices.worker.runtimes.litert import import_interpreter
from hwnas.devices.worker.runtimes.onnxruntime_cpu import import_onnxruntime
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.processes import own_peak_bytes, run_json_child, serve_json

RUNS = 3
"""Calls of the model before the peak is read."""


class PeakMemory(msgspec.Struct, frozen=True):
    """Peak resident memory of a process that ran one model, and of an empty process."""

    total_bytes: int
    empty_bytes: int
    """Peak of a process that only imports the runtime."""

    @property
    def model_bytes(self) -> int:
        return max(0, self.total_bytes - self.empty_bytes)


def peak_memory(
    files: Sequence[tuple[Path, RuntimeName]],
    threads: int,
    batches: Sequence[int | None] = (),
    shapes: Sequence[InputShape] = (),
) -> list[PeakMemory]:
    """Open and run each file, at its batch size, in a fresh process of this machine.

    ``shapes`` are those of free inputs.

    Raises `InvalidFile` for a file that the runtime refuses, `DeviceError` without the runtime.
    """
    runtimes: set[RuntimeName] = {runtime for _, runtime in files}
    empty = {runtime: _peak_bytes(MemoryRequest(runtime, threads)) for runtime in runtimes}
    return [
        PeakMemory(
            total_bytes=_peak_bytes(
                MemoryRequest(runtime, threads, str(path), batch, tuple(shapes))
            ),
            empty_bytes=empty[runtime],
        )
        for (path, runtime), batch in zip(files, batches or [None] * len(files), strict=True)
    ]


class MemoryRequest(msgspec.Struct, frozen=True):
    """A model for the child to open and run; without ``path`` it only imports the runtime."""

    runtime: RuntimeName
    threads: int
    path: str | None = None
    batch: int | None = None
    shapes: tuple[InputShape, ...] = ()


def _peak_bytes(request: MemoryRequest) -> int:
    return run_json_child(__name__, request, int)


def _measure(request: MemoryRequest) -> int:
    if request.path is not None:
        model = open_model(request.path, request.runtime, request.threads)
        stated = [msgspec.structs.asdict(shape) for shape in request.shapes]
        shapes = input_shapes(request.path, model.inputs, request.batch, stated)
        model.set_inputs([np.zeros(shape, np.float32) for shape in shapes])
        for _ in range(RUNS):
            model.run()
    elif request.runtime == "onnxruntime":
        import_onnxruntime()
    elif request.runtime == "torch":
        importlib.import_module("torch")
    else:
        import_interpreter()
        if request.threads > 1:
            importlib.import_module("ai_edge_litert.compiled_model")
    return own_peak_bytes()


if __name__ == "__main__":
    serve_json(_measure, MemoryRequest)
