"""State of an NVIDIA GPU while it measures, by NVML: clocks, temperature, power, throttling.

NVML is optional: without ``nvidia-ml-py`` or a driver the state is unknown, and a driver may not
report every field.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hwnas.devices.worker.runtimes.cuda import find_cuda_gpu

THROTTLE_REASONS = {
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "heat (software)",
    0x040: "heat (hardware)",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Bits of NVML's clocks event reasons; bit 1 means idle, which does not slow a run."""


class Handles(NamedTuple):
    """NVML's handles of the GPU that measures."""

    device: Any
    """The GPU, or an instance of it (MIG), which has its own name, UUID and memory."""
    whole: Any
    """The whole GPU, which has the clocks, temperature and power."""


def watch(number: int) -> Callable[[], dict[str, Any] | None]:
    """Read a GPU's state; the returned function reads it again and returns `GpuState` fields."""
    nvml = open_nvml()
    gpu = None if nvml is None else find_gpu(nvml, number)
    if nvml is None or gpu is None:
        return lambda: None
    before = state(nvml, gpu)

    def after() -> dict[str, Any]:
        now = state(nvml, gpu)
        slowed = dict.fromkeys((*before["slowed_by"], *now["slowed_by"]))
        return {**now, "slowed_by": list(slowed)}

    return after


def open_nvml() -> Any:
    """Return the module ``pynvml``, initialised, or None."""
    try:
        nvml = importlib.import_module("pynvml")
        nvml.nvmlInit()
    except Exception:  # no package or no driver, with different exceptions
        return None
    return nvml


def find_gpu(nvml: Any, number: int) -> Handles | None:
    """Return handles of the GPU with that CUDA number, by its UUID or PCI bus id.

    NVML's own numbers are not used, as they ignore ``CUDA_VISIBLE_DEVICES``.
    """
    try:
        gpu = find_cuda_gpu(number)
    except (RuntimeError, AttributeError):
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    names = [f"MIG-{gpu.uuid}"] if gpu.uuid else []
    names += [first] if first.startswith("MIG-") else []  # the only one CUDA sees
    for name in names:
        instance = _query(nvml, "nvmlDeviceGetHandleByUUID", name.encode())
        if instance is not None:
            whole = _query(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
            return Handles(instance, instance if whole is None else whole)
    handle = _query(nvml, "nvmlDeviceGetHandleByPciBusId", gpu.pci_bus_id.encode())
    return None if handle is None else Handles(handle, handle)


def state(nvml: Any, gpu: Handles) -> dict[str, Any]:
    """Return a GPU's state; ``None`` for values that the driver does not report."""

    def query(name: str, *arguments: Any) -> Any:
        return _query(nvml, name, gpu.whole, *arguments)

    def query_device(name: str) -> Any:
        return _query(nvml, name, gpu.device)

    bits = query("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:  # the name before driver 535
        bits = query("nvmlDeviceGetCurrentClocksThrottleReasons")
    memory = query_device("nvmlDeviceGetMemoryInfo")
    running = query_device("nvmlDeviceGetComputeRunningProcesses")
    ecc, mig = query("nvmlDeviceGetEccMode"), query("nvmlDeviceGetMigMode")
    persistence = query("nvmlDeviceGetPersistenceMode")
    return {
        "name": _text(query_device("nvmlDeviceGetName")) or "NVIDIA GPU",
        "uuid": _text(query_device("nvmlDeviceGetUUID")),
        "driver": _text(_query(nvml, "nvmlSystemGetDriverVersion")),
        "memory_bytes": None if memory is None else int(memory.total),
        "sm_clock_mhz": query("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        "max_sm_clock_mhz": query("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": query("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        "temperature_c": query("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        "power_w": _watts(query("nvmlDeviceGetPowerUsage")),
        "power_limit_w": _watts(query("nvmlDeviceGetEnforcedPowerLimit")),
        "slowed_by": [reason for bit, reason in THROTTLE_REASONS.items() if (bits or 0) & bit],
        "persistence": None if persistence is None else bool(persistence),
        "ecc": None if ecc is None else bool(ecc[0]),
        "mig": None if mig is None else bool(mig[0]),
        "others": None if running is None else sum(p.pid != os.getpid() for p in running),
    }


def _query(nvml: Any, name: str, *arguments: Any) -> Any:
    try:
        return getattr(nvml, name)(*arguments)
    except Exception:  # NVMLError of many kinds, or a version without the function
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else milliwatts / 1e3
