"""A fake of nvidia-ml-py on the machine of `cuda.c`; its Tesla T4 is throttled by a power cap."""

from __future__ import annotations

import os
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0


class NVMLError(Exception): ...


def nvmlInit() -> None: ...


def nvmlSystemGetDriverVersion() -> str:
    return "535.104.05"


T4, A100, OTHER_A100, INSTANCE = "t4", "a100", "other a100", "instance"
BUS_IDS = {b"0000:3b:00.0": T4, b"0000:5e:00.0": A100, b"0000:86:00.0": OTHER_A100}
NAMES = {
    T4: "Tesla T4",
    A100: "NVIDIA A100",
    OTHER_A100: "NVIDIA A100",
    INSTANCE: "NVIDIA A100 MIG 1g.5gb",
}
UUIDS = {
    T4: "GPU-1b2c0000-0000-0000-0000-000000000000",
    A100: "GPU-a1000000-0000-0000-0000-000000000000",
    OTHER_A100: "GPU-a1ff0000-0000-0000-0000-000000000000",
    INSTANCE: "MIG-5e115000-0000-0000-0000-000000000000",
}
GIBIBYTES = {T4: 15, A100: 40, OTHER_A100: 40, INSTANCE: 5}


def nvmlDeviceGetHandleByPciBusId(place: bytes) -> str:
    if place not in BUS_IDS:
        raise NVMLError("Not Found")
    return BUS_IDS[place]


def nvmlDeviceGetHandleByUUID(uuid: bytes) -> str:
    for handle, known in UUIDS.items():
        if uuid == known.encode():
            return handle
    if uuid == f"MIG-{UUIDS[A100]}/1/0".encode():  # until driver 470
        return INSTANCE
    raise NVMLError("Not Found")


def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle: str) -> str:
    if handle != INSTANCE:
        raise NVMLError("Invalid Argument")
    return A100


def nvmlDeviceGetName(handle: str) -> bytes:
    return NAMES[handle].encode()  # older versions answer in bytes


def nvmlDeviceGetUUID(handle: str) -> str:
    return UUIDS[handle]


def nvmlDeviceGetMemoryInfo(handle: str) -> SimpleNamespace:
    return SimpleNamespace(total=GIBIBYTES[handle] * 2**30)


def nvmlDeviceGetClockInfo(handle: str, which: int) -> int:
    if handle == INSTANCE:
        raise NVMLError("Not Supported")
    return {NVML_CLOCK_SM: 1200 if handle == T4 else 1410, NVML_CLOCK_MEM: 5000}[which]


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
    if handle != A100:
        raise NVMLError("Not Supported")
    return [1, 1]


def nvmlDeviceGetPersistenceMode(handle: str) -> int:
    return 0
