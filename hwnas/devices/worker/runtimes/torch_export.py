"""Programs of ``torch.export`` (.pt2) in PyTorch, on the CPU or an NVIDIA GPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel, InputTensor, fit
from hwnas.devices.worker.runtimes.cuda import (
    TimedRun,
    median_ms,
    use_nvidia_smi_order,
    visibility_hint,
)

DEVICE = "cuda:{}"


def open_program(path: str, threads: int, gpu: dict[str, Any] | None) -> Any:
    """Open a program on the CPU or a GPU. Raises as `open_model`."""
    return Program(path, threads) if gpu is None else GpuProgram(path, threads, gpu)


class Program:
    """A program on the CPU; a `Model`."""

    device = "cpu"

    def __init__(self, path: str, threads: int) -> None:
        self._path, self._torch = path, _import_torch()
        self.version: str = self._torch.__version__
        self._torch.set_num_threads(threads)
        try:
            program = self._load(path)
            user_inputs = set(program.graph_signature.user_inputs)
            inputs = [
                (node.name, node.meta["val"])
                for node in program.graph.nodes
                if node.op == "placeholder" and node.name in user_inputs
            ]
            self._module = program.module()
        except Exception as error:
            raise BadModel(path, error) from None
        if not all(isinstance(value, self._torch.Tensor) for _, value in inputs):
            raise BadModel(path, "has an input that is no tensor")
        self._dtypes = [value.dtype for _, value in inputs]
        self.inputs = tuple(_input(name, value) for name, value in inputs)
        self.output_names = tuple(
            f"output_{place}" for place in range(len(program.graph_signature.user_outputs))
        )
        self._outputs: list[Any] = []
        self.run: Callable[[], None] = self._run

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        fit(self._path, self.inputs, arrays)
        self._host = [
            self._torch.from_numpy(np.array(array, order="C")).to(dtype)
            for array, dtype in zip(arrays, self._dtypes, strict=True)
        ]
        self._inputs = [tensor.to(self.device) for tensor in self._host]

    def outputs(self) -> list[Array]:
        return [
            (output.float() if output.is_floating_point() else output).cpu().numpy()
            for output in self._outputs
        ]

    def _load(self, path: str) -> Any:
        return importlib.import_module("torch.export").load(path)

    def _run(self) -> None:
        with self._torch.no_grad():
            output = self._module(*self._inputs)
        leaves = importlib.import_module("torch.utils._pytree").tree_leaves(output)
        self._outputs = [leaf for leaf in leaves if isinstance(leaf, self._torch.Tensor)]


class GpuProgram(Program):
    """A program on a GPU, timed by PyTorch's CUDA events; a `GpuModel`."""

    def __init__(self, path: str, threads: int, gpu: dict[str, Any]) -> None:
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
        super().__init__(path, threads)
        if gpu["precision"] == "fp16":
            self._module = self._module.half()
            floats = [dtype.is_floating_point for dtype in self._dtypes]
            self._dtypes = [
                torch.float16 if is_float else dtype
                for is_float, dtype in zip(floats, self._dtypes, strict=True)
            ]
        self._timed = TimedRun(self._run, EventPair(torch))
        self.run = self._timed

    def check(self) -> None:
        """Raise RuntimeError if weights or an output of the last run are not on the GPU."""
        tensors = [*self._module.parameters(), *self._module.buffers(), *self._outputs]
        if outside := sum(tensor.device.type != "cuda" for tensor in tensors):
            raise RuntimeError(f"{outside} of {len(tensors)} tensors are not on the GPU")

    def gpu_execution(self) -> dict[str, Any]:
        return {
            "provider": "PyTorch CUDA",
            "precision": self._gpu["precision"],
            "clock": "CUDA events",
            "batch": len(self._inputs[0]),
            "wall_ms": self._timed.wall_ms,
            "to_gpu_ms": median_ms(self._to_gpu),
            "from_gpu_ms": median_ms(self._from_gpu),
            "nodes": {},
        }

    def _load(self, path: str) -> Any:
        program = super()._load(path)
        passes = importlib.import_module("torch.export.passes")
        return passes.move_to_device_pass(program, self.device)

    def _to_gpu(self) -> None:
        for tensor, host in zip(self._inputs, self._host, strict=True):
            tensor.copy_(host)
        self._torch.cuda.synchronize()

    def _from_gpu(self) -> None:
        for output in self._outputs:
            output.cpu()


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


def _input(name: str, value: Any) -> InputTensor:
    shape = tuple(size if type(size) is int else str(size) for size in value.shape)
    return InputTensor(name, shape, str(value.dtype).removeprefix("torch."))


def _import_torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise RuntimeError("PyTorch is not installed here: pip install torch") from None
