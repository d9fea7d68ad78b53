"""What an NVIDIA GPU does while it is measured, by NVML: clocks, heat, power, what slows it.

NVML is optional: without ``nvidia-ml-py`` or its driver nothing is known, and a driver may not know
every field.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from hwnas.devices.worker.runtimes.cuda import find_cuda_gpu

SLOWED_BY = {
    0x002: "application clocks",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "heat (software)",
    0x040: "heat (hardware)",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Bits of NVML's clocks event reasons; 1 is an idle GPU, which slows nothing that runs."""


class Handles(NamedTuple):
    """NVML's handles of what is measured."""

    named: Any
    """The GPU, or an instance of it (MIG), which has a name, a UUID and memory of its own."""
    whole: Any
    """The GPU: an instance has no clocks, heat and power of its own."""


def watch(number: int) -> Callable[[], dict[str, Any] | None]:
    """Read a GPU's state now; the returned function reads it again, as `measurement.Gpu`."""
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
    except Exception:  # no package, or no driver, in whichever form they say it
        return None
    return nvml


def find_gpu(nvml: Any, number: int) -> Handles | None:
    """Return CUDA's GPU of that number, by its UUID or its place on the bus.

    Never by NVML's own numbers: it counts all GPUs, whatever ``CUDA_VISIBLE_DEVICES`` says.
    """
    try:
        gpu = find_cuda_gpu(number)
    except (RuntimeError, AttributeError):
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    names = [f"MIG-{gpu.uuid}"] if gpu.uuid else []
    names += [first] if first.startswith("MIG-") else []  # CUDA sees no other beside an instance
    for name in names:
        instance = _asked(nvml, "nvmlDeviceGetHandleByUUID", name.encode())
        if instance is not None:
            whole = _asked(nvml, "nvmlDeviceGetDeviceHandleFromMigDeviceHandle", instance)
            return Handles(instance, instance if whole is None else whole)
    handle = _asked(nvml, "nvmlDeviceGetHandleByPciBusId", gpu.pci_bus_id.encode())
    return None if handle is None else Handles(handle, handle)


def state(nvml: Any, gpu: Handles) -> dict[str, Any]:
    """Return a GPU's state; None for what the driver doesn't say."""

    def ask(name: str, *arguments: Any) -> Any:
        return _asked(nvml, name, gpu.whole, *arguments)

    def ask_named(name: str) -> Any:
        return _asked(nvml, name, gpu.named)

    bits = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if bits is None:  # its name until driver 535
        bits = ask("nvmlDeviceGetCurrentClocksThrottleReasons")
    memory = ask_named("nvmlDeviceGetMemoryInfo")
    running = ask_named("nvmlDeviceGetComputeRunningProcesses")
    ecc, mig = ask("nvmlDeviceGetEccMode"), ask("nvmlDeviceGetMigMode")
    persistence = ask("nvmlDeviceGetPersistenceMode")
    return {
        "name": _text(ask_named("nvmlDeviceGetName")) or "NVIDIA GPU",
        "uuid": _text(ask_named("nvmlDeviceGetUUID")),
        "driver": _text(_asked(nvml, "nvmlSystemGetDriverVersion")),
        "memory_bytes": None if memory is None else int(memory.total),
        "sm_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        "max_sm_clock_mhz": ask("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
        "memory_clock_mhz": ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_MEM),
        "temperature_c": ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        "power_w": _watts(ask("nvmlDeviceGetPowerUsage")),
        "power_limit_w": _watts(ask("nvmlDeviceGetEnforcedPowerLimit")),
        "slowed_by": [said for bit, said in SLOWED_BY.items() if (bits or 0) & bit],
        "persistence": None if persistence is None else bool(persistence),
        "ecc": None if ecc is None else bool(ecc[0]),
        "mig": None if mig is None else bool(mig[0]),
        "others": None if running is None else sum(one.pid != os.getpid() for one in running),
    }


def _asked(nvml: Any, name: str, *arguments: Any) -> Any:
    try:
        return getattr(nvml, name)(*arguments)
    except Exception:  # NVMLError of many kinds, or a version without the function
        return None


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _watts(milliwatts: Any) -> float | None:
    return None if milliwatts is None else milliwatts / 1e3
