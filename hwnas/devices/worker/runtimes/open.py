"""Opens a model file with its runtime, which is imported only then."""

from __future__ import annotations

from typing import Any

from hwnas.devices.worker.model import Model


def open_model(
    path: str, runtime: str, threads: int = 1, gpu: dict[str, Any] | None = None
) -> Model:
    """Open a model file on the CPU or on a GPU.

    Raises `BadModel` for a file that the runtime refuses, RuntimeError if the runtime or its GPU
    support is not installed.
    """
    if runtime == "torch":
        from hwnas.devices.worker.runtimes.torch_export import open_program

        return open_program(path, threads, gpu)
    if runtime == "onnxruntime" and gpu is not None:
        from hwnas.devices.worker.runtimes.onnxruntime_gpu import OnnxGpuModel

        return OnnxGpuModel(path, threads, gpu)
    if runtime == "onnxruntime":
        from hwnas.devices.worker.runtimes.onnxruntime_cpu import OnnxModel

        return OnnxModel(path, threads)
    if runtime == "litert" and gpu is not None:
        raise RuntimeError("LiteRT runs on the CPU only here; for a GPU use onnxruntime or torch")
    if runtime == "litert":
        from hwnas.devices.worker.runtimes.litert import LiteRtModel, LiteRtThreadsModel

        return LiteRtModel(path) if threads == 1 else LiteRtThreadsModel(path, threads)
    raise RuntimeError(f"no runtime named {runtime!r}; known: litert, onnxruntime, torch")
