"""Peak memory of a model file: a fresh process that opens and runs it, less one that doesn't."""

from __future__ import annotations

import importlib
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.runners.child_process import answer, ask_child
from hwnas.devices.worker.runtimes.litert import import_interpreter
from hwnas.devices.worker.runtimes.onnxruntime_cpu import import_onnxruntime
from hwnas.devices.worker.runtimes.open import open_model

RUNS = 3


class PeakMemory(msgspec.Struct, frozen=True):
    """Largest resident memory of a process that ran one model, and of an empty one."""

    total_bytes: int
    empty_bytes: int
    """Of a process that only imports the runtime."""

    @property
    def model_bytes(self) -> int:
        return max(0, self.total_bytes - self.empty_bytes)


def peak_memory(
    files: Sequence[tuple[Path, RuntimeName]], threads: int, batches: Sequence[int] = ()
) -> list[PeakMemory]:
    """Open and run each file in a fresh process of this machine, for so many inputs at once.

    Raises `InvalidFile` for a file that the runtime refuses, `DeviceError` without the runtime.
    """
    empty = {
        runtime: _peak_bytes({"runtime": runtime, "threads": threads, "path": None})
        for runtime in {runtime for _, runtime in files}
    }
    return [
        PeakMemory(
            total_bytes=_peak_bytes(
                {"runtime": runtime, "threads": threads, "path": str(path), "batch": batch}
            ),
            empty_bytes=empty[runtime],
        )
        for (path, runtime), batch in zip(files, batches or [1] * len(files), strict=True)
    ]


def _peak_bytes(request: dict[str, Any]) -> int:
    return ask_child("hwnas.devices.runners.memory", request)["peak_bytes"]


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    runtime, threads, path = request["runtime"], request["threads"], request["path"]
    if path is None:
        if runtime == "onnxruntime":
            import_onnxruntime()
        elif runtime == "torch":
            importlib.import_module("torch")
        else:
            import_interpreter()
            if threads > 1:
                importlib.import_module("ai_edge_litert.compiled_model")
    else:
        model = open_model(path, runtime, threads, request["batch"])
        model.set_input(np.zeros(model.input_shape, np.float32))
        for _ in range(RUNS):
            model.run()
    return {"peak_bytes": _own_peak_bytes()}


def _own_peak_bytes() -> int:
    """`VmHWM` where there is /proc: ``ru_maxrss`` includes what the parent had at the fork."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    answer(_measure)
