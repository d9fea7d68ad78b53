"""Plays nvidia-ml-py with the driver of a Tesla T4 that is held down by its power cap."""

from __future__ import annotations

import os
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0


class NVMLError(Exception): ...


def nvmlInit() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return "535.104.05"


def nvmlDeviceGetHandleByPciBusId(place: bytes) -> str:
    if place != b"0000:3b:00.0":
        raise NVMLError("Not Found")
    return "handle"


def nvmlDeviceGetName(handle: str) -> bytes:
    return b"Tesla T4"  # older versions answer in bytes


def nvmlDeviceGetUUID(handle: str) -> str:
    return "GPU-1b2c"


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:
    return SimpleNamespace(total=15 * 2**30)


def nvmlDeviceGetClockInfo(handle: str, which: int) -> int:
    return {NVML_CLOCK_SM: 1200, NVML_CLOCK_MEM: 5000}[which]


def nvmlDeviceGetMaxClockInfo(handle: str, which: int) -> int:
    return 1590


def nvmlDeviceGetTemperature(handle: str, which: int) -> int:
    return 71


def nvmlDeviceGetPowerUsage(handle: str) -> int:
    return 69_500


def nvmlDeviceGetEnforcedPowerLimit(handle: str) -> int:
    return 70_000


def nvmlDeviceGetCurrentClocksThrottleReasons(handle: str) -> int:
    return 0x5  # idle, and the power cap


def nvmlDeviceGetComputeRunningProcesses(handle: str) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1)]


def nvmlDeviceGetEccMode(handle: str) -> list[int]:
    return [1, 1]


def nvmlDeviceGetMigMode(handle: str) -> list[int]:
    raise NVMLError("Not Supported")


def nvmlDeviceGetPersistenceMode(handle: str) -> int:
    return 0
