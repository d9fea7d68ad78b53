"""Device, precision and threads of computations."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, TypeVar

import msgspec
import psutil
import torch
from torch import Tensor, nn

from hwnas.errors import HwnasError, UsageError, first_line
from hwnas.processes import own_peak_bytes

Amp = Literal["none", "bf16", "fp16"]
AMP_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

Module = TypeVar("Module", bound=nn.Module)


class Compute(msgspec.Struct, frozen=True):
    """The device of weights and images, and the precision of forward and backward passes.

    Weights, momenta, batch norm statistics, losses and everything about architectures stay in
    float32 or float64. On one kind of device, the same values give the same weights.
    """

    device: str = "cpu"
    """A torch device: ``cpu``, ``cuda:0``, ``mps``."""
    amp: Amp = "none"
    """Type to which convolutions and matrix products are cast; ``none``: float32."""
    threads: int = 1
    """Threads of the CPU's operations."""

    @property
    def kind(self) -> str:
        """``cpu``, ``cuda`` or ``mps``."""
        return self.device.partition(":")[0]

    def start(self) -> None:
        """Set threads and determinism of this process, before its first operation."""
        torch.set_num_threads(self.threads)
        keep_freed_memory()
        if self.kind == "cuda":
            # cuBLAS is repeatable with a workspace of fixed size only; read when CUDA starts
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True, warn_only=True)
            # else each new tensor is filled first: a kernel more for most layers
            torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]
            torch.cuda.set_device(self.device)

    def of_rank(self) -> Compute:
        """Return these settings for the GPU of this rank."""
        if self.kind != "cuda":
            return self
        return msgspec.structs.replace(self, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}")

    def of_child(self) -> Compute:
        """Return these settings for a process that sees one GPU only, with one thread."""
        device = "cuda:0" if self.kind == "cuda" else self.device
        return msgspec.structs.replace(self, device=device, threads=1)

    def place(self, module: Module) -> Module:
        """Move a module to the device, its weights channels last in memory; return it."""
        return module.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def put(self, tensor: Tensor) -> Tensor:
        """Return a tensor on the device, see `put_on`."""
        return put_on(torch.device(self.device), tensor)

    def autocast(self) -> AbstractContextManager[object]:
        """Return the context of a forward pass. One for each step: casts of weights are cached."""
        if self.amp == "none":
            return nullcontext()
        return torch.autocast(self.kind, AMP_TYPES[self.amp])

    def scaler(self) -> torch.amp.GradScaler:
        """Return the scaler of losses, which changes nothing unless gradients are fp16."""
        return torch.amp.GradScaler(self.kind, enabled=self.amp == "fp16")


CPU = Compute()
WAITS = ("cpu", "mps")
"""Kinds of devices to which a copy is complete when the call returns. The CPU's operations don't
wait for a copy, and a copy to MPS reads memory of the host that may have other content by then."""


def put_on(device: torch.device, tensor: Tensor) -> Tensor:
    """Return a tensor on a device.

    A copy to a CUDA device may still be under way. Operations there wait for it; the host doesn't,
    because it would wait for all operations before it too.
    """
    return tensor.to(device, non_blocking=device.type not in WAITS)


def scaler_state(scaler: torch.amp.GradScaler) -> dict[str, Tensor]:
    """Return the scale and the steps since it changed; nothing where gradients aren't scaled."""
    if not scaler.is_enabled():
        return {}
    state = scaler.state_dict()
    return {"scale": torch.tensor([state["scale"], state["_growth_tracker"]], dtype=torch.float64)}


def load_scaler(scaler: torch.amp.GradScaler, state: Mapping[str, Tensor]) -> None:
    """Restore what `scaler_state` returned, if ``state`` has it."""
    if "scale" in state:
        scale, steps = state["scale"].tolist()
        scaler.load_state_dict(
            {**scaler.state_dict(), "scale": scale, "_growth_tracker": int(steps)}
        )


def full_precision(values: Tensor) -> Tensor:
    """Return bf16 and fp16 values as float32, other values unchanged: for losses and sums."""
    return values.float() if values.dtype in AMP_TYPES.values() else values


def resolve_compute(device: str = "auto", amp: str = "auto", threads: int = 1) -> Compute:
    """Return the device and the precision that ``auto`` means on this machine.

    ``auto`` is the first CUDA device, or that of this rank, else the CPU; ``mps`` only if it is
    named. Raises `UsageError` for a device or a precision that this machine does not support.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    _check_device(device)
    kind = device.partition(":")[0]
    if amp == "auto":
        amp = "bf16" if kind == "cuda" and _has_bf16() else "none"
    if amp == "bf16" and kind == "cuda" and not _has_bf16():
        raise UsageError(
            f"--amp bf16: {torch.cuda.get_device_name(device)} computes bf16 only by emulation; "
            "expected fp16 or none"
        )
    return msgspec.convert({"device": device, "amp": amp, "threads": threads}, Compute)


def _check_device(device: str) -> None:
    """Raise `UsageError`, one line, for a device that is not here."""
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise UsageError("--device mps: no Apple GPU is available here; expected cpu or auto")
        return
    if kind != "cuda" or not number.isdigit():
        raise UsageError(f"--device {device}: expected auto, cpu, cuda, cuda:N or mps")
    if not torch.backends.cuda.is_built():
        raise UsageError(
            f"--device {device}: torch {torch.__version__} is built without CUDA; install a CUDA "
            "build of torch, or use --device cpu"
        )
    count = _cuda_count()
    if int(number) >= count:
        have = ", ".join(f"cuda:{index}" for index in range(count)) or "no CUDA device"
        raise UsageError(f"--device {device}: this machine has {have}; --device cpu works here")


def _cuda_count() -> int:
    try:
        return torch.cuda.device_count()
    except RuntimeError as error:
        raise UsageError(f"--device cuda: CUDA does not start ({first_line(error)})") from None


def _has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def free_bytes(device: str) -> float:
    """Return the bytes of free memory of a device; for the CPU without swapping."""
    if device.startswith("cuda"):
        torch.cuda.empty_cache()  # what PyTorch holds without using it
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


@contextmanager
def memory_errors(device: str, batch_size: int) -> Iterator[None]:
    """Turn the error of a full GPU into one line; ``batch_size`` is that of a step."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        half = f", one of {batch_size // 2} may" if batch_size > 1 else ""
        raise HwnasError(
            f"{device} is out of memory: a step of {batch_size} images doesn't fit{half}; the last "
            "checkpoint is still there"
        ) from None


def visible_gpus() -> list[str]:
    """Return the CUDA devices of this process, as CUDA_VISIBLE_DEVICES names them."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    return listed.split(",") if listed else [str(n) for n in range(torch.cuda.device_count())]


def peak_bytes(device: str) -> int:
    """Return the largest memory so far: of a CUDA device, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return own_peak_bytes()


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Options of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel.

    Activations are allocated and freed in each step; returning their pages was measured to cost a
    sixth of a training step. Does nothing on other systems.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD):
            mallopt(option, 1 << 28)
