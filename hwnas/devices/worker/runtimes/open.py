"""Opens a model file with its runtime; runtimes are imported when they are needed."""

from __future__ import annotations

from typing import Any

from hwnas.devices.worker.model import Model, check_batch


def open_model(
    path: str, runtime: str, threads: int = 1, batch: int = 1, gpu: dict[str, Any] | None = None
) -> Model:
    """Open a model file for ``batch`` inputs at once, on the processor or on a GPU.

    Raises `BadModel` for a file that the runtime refuses, RuntimeError where the runtime, or its
    way to the GPU, is not installed.
    """
    if runtime == "torch":
        from hwnas.devices.worker.runtimes.torch_export import TorchModel

        return TorchModel(path, threads, batch, gpu)
    if runtime == "onnxruntime" and gpu is not None:
        from hwnas.devices.worker.runtimes.onnxruntime_gpu import OnnxGpuModel

        return OnnxGpuModel(path, threads, batch, gpu)
    if runtime == "onnxruntime":
        from hwnas.devices.worker.runtimes.onnxruntime_cpu import OnnxModel

        return OnnxModel(path, threads, batch)
    if runtime == "litert" and gpu is not None:
        raise RuntimeError("LiteRT runs on the processor here; on a GPU: onnxruntime, torch")
    if runtime == "litert":
        from hwnas.devices.worker.runtimes.litert import LiteRtModel, LiteRtThreadsModel

        model = LiteRtModel(path) if threads == 1 else LiteRtThreadsModel(path, threads)
        check_batch(path, model.input_shape, batch)
        return model
    raise RuntimeError(f"no runtime named {runtime!r}; known: litert, onnxruntime, torch")
