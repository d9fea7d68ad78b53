"""NVIDIA GPUs by ctypes on the driver's library: enumeration, events, streams.

No toolkit is needed. A GPU's number is CUDA's, which equals nvidia-smi's unless
``CUDA_VISIBLE_DEVICES`` selects GPUs (by number, UUID, or an instance ``MIG-...``): then it is the
position in that list.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from ctypes import byref, c_char_p, c_float, c_int, c_uint, c_void_p
from statistics import median
from typing import Any, NamedTuple
from uuid import UUID

LIBRARY = "libcuda.so.1"
NON_BLOCKING = 1
"""Flag of a stream that does not wait for the default stream."""


class CudaGpu(NamedTuple):
    """A GPU, or an instance of a GPU (MIG), that CUDA may use."""

    pci_bus_id: str
    """E.g. ``0000:3b:00.0``, the same for CUDA, NVML and nvidia-smi; an instance has its GPU's."""
    uuid: str
    """Without ``GPU-`` or ``MIG-``; empty for instances with drivers before 470."""


def driver() -> ctypes.CDLL:
    """Return the driver's library, initialised. Raises RuntimeError if there is no usable one."""
    use_nvidia_smi_order()
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError:
        raise RuntimeError(
            f"there is no NVIDIA driver here ({LIBRARY} is missing); check with `nvidia-smi`"
        ) from None
    library.cuStreamCreate.argtypes = (c_void_p, c_uint)
    library.cuEventCreate.argtypes = (c_void_p, c_uint)
    library.cuEventRecord.argtypes = (c_void_p, c_void_p)
    library.cuEventSynchronize.argtypes = (c_void_p,)
    library.cuEventElapsedTime.argtypes = (c_void_p, c_void_p, c_void_p)
    library.cuCtxSetCurrent.argtypes = (c_void_p,)
    try:
        _call(library, "cuInit", c_uint(0))
    except RuntimeError as error:
        raise RuntimeError(f"{error}{visibility_hint()}") from None
    return library


def use_nvidia_smi_order() -> None:
    """Make CUDA number GPUs by PCI bus id, unless the user chose otherwise; before it starts."""
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def visibility_hint() -> str:
    """Return a hint for errors about a missing GPU: the environment variable that hides GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f"; CUDA_VISIBLE_DEVICES is {visible[:200]!r}"


def cuda_gpus() -> list[CudaGpu]:
    """Return the GPUs that CUDA sees, by number. Raises RuntimeError if it sees none."""
    library, count = driver(), c_int()
    _call(library, "cuDeviceGetCount", byref(count))
    gpus: list[CudaGpu] = []
    for number in range(count.value):
        device, text, uuid = c_int(), ctypes.create_string_buffer(32), (ctypes.c_ubyte * 16)()
        _call(library, "cuDeviceGet", byref(device), c_int(number))
        _call(library, "cuDeviceGetPCIBusId", text, c_int(32), device)
        has_uuid = hasattr(library, "cuDeviceGetUuid_v2")
        if has_uuid:
            _call(library, "cuDeviceGetUuid_v2", byref(uuid), device)
        name = str(UUID(bytes=bytes(uuid))) if has_uuid else ""
        gpus.append(CudaGpu(text.value.decode(errors="replace").lower(), name))
    return gpus


def find_cuda_gpu(number: int) -> CudaGpu:
    """Return the GPU with that number. Raises RuntimeError, with the number of GPUs."""
    gpus = cuda_gpus()
    if number >= len(gpus):
        raise RuntimeError(
            f"there is no GPU {number}: CUDA sees {len(gpus)}, counted from 0{visibility_hint()}"
        )
    return gpus[number]


class EventClock:
    """A stream on a GPU, and a pair of events to time runs on it."""

    name = "CUDA events"

    def __init__(self, number: int) -> None:
        self._library = driver()
        device, context, stream = c_int(), c_void_p(), c_void_p()
        self._call("cuDeviceGet", byref(device), c_int(number))
        self._call("cuDevicePrimaryCtxRetain", byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuStreamCreate", byref(stream), NON_BLOCKING)
        self._stream, self._events = stream, (c_void_p(), c_void_p())
        for event in self._events:
            self._call("cuEventCreate", byref(event), 0)

    @property
    def stream(self) -> int:
        """The address of the stream, as runtimes expect it."""
        return self._stream.value or 0

    def elapsed_ms(self, run: Callable[[], None]) -> float:
        """Return the time of a run on the GPU, from its first kernel to its last."""
        start, end = self._events
        self._call("cuEventRecord", start, self._stream)
        run()
        self._call("cuEventRecord", end, self._stream)
        self._call("cuEventSynchronize", end)
        elapsed_ms = c_float()
        self._call("cuEventElapsedTime", byref(elapsed_ms), start, end)
        return elapsed_ms.value

    def _call(self, name: str, *arguments: Any) -> None:
        _call(self._library, name, *arguments)


class TimedRun:
    """A `GpuRun`: times a run by GPU events and by the machine's clock."""

    def __init__(self, run: Callable[[], None], clock: Any) -> None:
        self._run, self._clock = run, clock
        self._wall_ms: list[float] = []

    def __call__(self) -> None:
        self._run()

    def timed_ms(self, calls: int) -> list[float]:
        samples_ms: list[float] = []
        for _ in range(calls):
            start = time.perf_counter_ns()
            elapsed_ms = self._clock.elapsed_ms(self._run)
            self._wall_ms.append((time.perf_counter_ns() - start) / 1e6)
            samples_ms.append(max(round(elapsed_ms, 5), 1e-5))
        return samples_ms

    @property
    def wall_ms(self) -> float | None:
        """Median by this machine's clock, including launches and waiting."""
        return round(median(self._wall_ms), 5) if self._wall_ms else None


def median_ms(act: Callable[[], object], times: int = 20) -> float:
    """Return the median time of a call by this machine's clock."""
    samples: list[float] = []
    act()
    for _ in range(times):
        start = time.perf_counter_ns()
        act()
        samples.append((time.perf_counter_ns() - start) / 1e6)
    return round(median(samples), 5)


def _call(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    status = getattr(library, name)(*arguments)
    if status:
        text = c_char_p()
        library.cuGetErrorString(c_int(status), byref(text))
        why = (text.value or b"unknown").decode(errors="replace")
        raise RuntimeError(f"NVIDIA's driver: {name} failed with status {status} ({why})")
