"""What this machine is: a short name for its hardware, and the same in words."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.transports.transport import Facts
from hwnas.measurement.measurement import Gpu


def fingerprint() -> str:
    """Return 12 hex digits of all hardware that a latency depends on.

    Processor model, machine type, instruction set flags, number of logical processors, and RAM
    in whole GB (the kernel takes a varying share of it).
    """
    said = (_cpu_model(), platform.machine(), _cpu_flags(), str(os.cpu_count()), str(_ram_gb()))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def hardware() -> str:
    """Return the same in words, e.g. ``AMD EPYC, x86_64, 2 logical processors, 8 GB``."""
    ram = f", {_ram_gb()} GB" if _ram_gb() else ""
    return f"{_cpu_model()}, {platform.machine()}, {os.cpu_count()} logical processors{ram}"


def remote_fingerprint(facts: Facts) -> str:
    """Return the same of a device that was probed."""
    flags = " ".join(sorted(set((facts.cpu("flags") or facts.cpu("Features")).split())))
    said = (facts.name, facts.machine, flags, str(facts.cores), str(round(facts.ram_bytes / 1e9)))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:12]


def remote_hardware(facts: Facts) -> str:
    return (
        f"{facts.name}, {facts.machine}, {facts.cores} logical processors, "
        f"{round(facts.ram_bytes / 1e9)} GB"
    )


def with_gpu(machine: str, profile: DeviceProfile, gpu: Gpu | None) -> str:
    """Return the fingerprint of a machine with its GPU, where a profile has one."""
    if profile.gpu is None:
        return machine
    asked = (profile.gpu.provider, profile.gpu.precision)
    known = (gpu.name, str(gpu.memory_bytes)) if gpu else ("NVML says nothing",)
    return hashlib.sha256("\n".join((machine, *asked, *known)).encode()).hexdigest()[:12]


def named_gpu(machine: str, profile: DeviceProfile, gpu: Gpu | None) -> str:
    """Return a machine in words, with its GPU first where a profile has one."""
    if profile.gpu is None:
        return machine
    name = gpu.name if gpu else f"GPU {profile.gpu.number}, of which NVML says nothing"
    return f"{name} ({profile.gpu.provider}, {profile.gpu.precision}) in {machine}"


def _cpu_model() -> str:
    """Intel and AMD say ``model name``; ARM boards ``Model``, ``Hardware`` or the part's number."""
    for key in ("model name", "Model", "Hardware", "CPU part"):
        if found := _cpuinfo(key):
            return found
    return platform.processor() or platform.machine()


def _cpu_flags() -> str:
    return " ".join(sorted(set((_cpuinfo("flags") or _cpuinfo("Features")).split())))


def _cpuinfo(key: str) -> str:
    """Return the first value of a field of ``/proc/cpuinfo``; empty where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for name, _, value in fields if name.strip() == key), "")


def _ram_gb() -> int:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9)
    except (AttributeError, ValueError, OSError):
        return 0
