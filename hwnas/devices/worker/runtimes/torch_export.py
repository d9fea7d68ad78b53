"""Programs of ``torch.export`` (.pt2) in PyTorch, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, check_batch, fixed_shape
from hwnas.devices.worker.runtimes.cuda import (
    TimedRun,
    median_ms,
    use_nvidia_smi_order,
    visibility_hint,
)

DEVICE = "cuda:{}"


def open_program(path: str, threads: int, batch: int, gpu: dict[str, Any] | None) -> Any:
    """Open a program on the CPU or a GPU. Raises as `open_model`."""
    return Program(path, threads, batch) if gpu is None else GpuProgram(path, threads, batch, gpu)


class Program:
    """A program on the CPU; a `Model`."""

    device = "cpu"

    def __init__(self, path: str, threads: int, batch: int) -> None:
        self._torch = _import_torch()
        self.version: str = self._torch.__version__
        self._torch.set_num_threads(threads)
        try:
            program = self._load(path)
            user_inputs = set(program.graph_signature.user_inputs)
            inputs = [
                node.meta["val"]
                for node in program.graph.nodes
                if node.op == "placeholder" and node.name in user_inputs
            ]
            self._module = program.module()
        except Exception as error:
            raise BadModel(path, error) from None
        if len(inputs) != 1:
            raise BadModel(path, f"expected a model of one input, got {len(inputs)}")
        shape = [axis if type(axis) is int else None for axis in inputs[0].shape]
        self.input_shape = fixed_shape(shape, batch)
        check_batch(path, self.input_shape, batch)
        self._dtype = inputs[0].dtype
        self._output: Any = None
        self.run: Callable[[], None] = self._run

    def set_input(self, array: Array) -> None:
        self._host = self._torch.from_numpy(np.array(array, order="C")).to(self._dtype)
        self._input = self._host.to(self.device)

    def output(self) -> Array:
        return self._output.float().cpu().numpy()

    def _load(self, path: str) -> Any:
        return importlib.import_module("torch.export").load(path)

    def _run(self) -> None:
        with self._torch.no_grad():
            output = self._module(self._input)
        self._output = output[0] if isinstance(output, tuple | list) else output


class GpuProgram(Program):
    """A program on a GPU, timed by PyTorch's CUDA events; a `GpuModel`."""

    def __init__(self, path: str, threads: int, batch: int, gpu: dict[str, Any]) -> None:
        use_nvidia_smi_order()
        torch = _import_torch()
        if not torch.cuda.is_available() or gpu["number"] >= torch.cuda.device_count():
            raise RuntimeError(
                f"PyTorch {torch.__version__} sees no GPU {gpu['number']} here "
                f"({torch.cuda.device_count() if torch.cuda.is_available() else 0} in all)"
                f"{visibility_hint()}"
            )
        self.device, self._gpu = DEVICE.format(gpu["number"]), gpu
        torch.cuda.set_device(gpu["number"])
        for backend in (torch.backends.cuda.matmul, torch.backends.cudnn):
            backend.allow_tf32 = gpu["precision"] == "tf32"
        super().__init__(path, threads, batch)
        if gpu["precision"] == "fp16":
            self._module, self._dtype = self._module.half(), torch.float16
        self._timed = TimedRun(self._run, EventPair(torch))
        self.run = self._timed

    def check(self) -> None:
        """Raise RuntimeError if weights or the output of the last run are not on the GPU."""
        tensors = [*self._module.parameters(), *self._module.buffers(), self._output]
        if outside := sum(tensor.device.type != "cuda" for tensor in tensors):
            raise RuntimeError(f"{outside} of {len(tensors)} tensors are not on the GPU")

    def gpu_execution(self) -> dict[str, Any]:
        return {
            "provider": "PyTorch CUDA",
            "precision": self._gpu["precision"],
            "clock": "CUDA events",
            "batch": self.input_shape[0],
            "wall_ms": self._timed.wall_ms,
            "to_gpu_ms": median_ms(self._to_gpu),
            "from_gpu_ms": median_ms(self._output.cpu),
            "nodes": {},
        }

    def _load(self, path: str) -> Any:
        program = super()._load(path)
        passes = importlib.import_module("torch.export.passes")
        return passes.move_to_device_pass(program, self.device)

    def _to_gpu(self) -> None:
        self._input.copy_(self._host)
        self._torch.cuda.synchronize()


class EventPair:
    """A pair of PyTorch's events on the current stream; the interface of `EventClock`."""

    def __init__(self, torch: Any) -> None:
        self._start, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def elapsed_ms(self, run: Callable[[], None]) -> float:
        self._start.record()
        run()
        self._end.record()
        self._end.synchronize()
        return self._start.elapsed_time(self._end)


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise RuntimeError("PyTorch is not installed here: pip install torch") from None
