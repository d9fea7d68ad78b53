"""Fingerprints of hardware: a short hash, and a description in words."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.transports.transport import DeviceFacts
from hwnas.measurement.gpu import GpuState


def fingerprint() -> str:
    """Return 12 hex digits that identify this machine's hardware.

    Hashed are processor model, machine type, instruction set flags, number of logical processors,
    and RAM in whole GB (the kernel reserves a varying part of it).
    """
    facts = (_cpu_model(), platform.machine(), _cpu_flags(), str(os.cpu_count()), str(_ram_gb()))
    return _hash(*facts)


def hardware() -> str:
    """Describe this machine, e.g. ``AMD EPYC, x86_64, 2 logical processors, 8 GB``."""
    ram = f", {_ram_gb()} GB" if _ram_gb() else ""
    return f"{_cpu_model()}, {platform.machine()}, {os.cpu_count()} logical processors{ram}"


def remote_fingerprint(facts: DeviceFacts) -> str:
    """Return the fingerprint of a probed device, computed as `fingerprint`."""
    flags = " ".join(sorted(set((facts.cpu("flags") or facts.cpu("Features")).split())))
    ram_gb = str(round(facts.ram_bytes / 1e9))
    return _hash(facts.name, facts.machine, flags, str(facts.cores), ram_gb)


def remote_hardware(facts: DeviceFacts) -> str:
    """Describe a probed device."""
    return (
        f"{facts.name}, {facts.machine}, {facts.cores} logical processors, "
        f"{round(facts.ram_bytes / 1e9)} GB"
    )


def gpu_fingerprint(machine: str, profile: DeviceProfile, gpu: GpuState | None) -> str:
    """Return a machine's fingerprint, combined with that of the profile's GPU if it has one."""
    if profile.gpu is None:
        return machine
    state = (gpu.name, str(gpu.memory_bytes)) if gpu else ("NVML says nothing",)
    return _hash(machine, profile.gpu.provider, profile.gpu.precision, *state)


def gpu_hardware(machine: str, profile: DeviceProfile, gpu: GpuState | None) -> str:
    """Return a machine's description, with the profile's GPU first if it has one."""
    if profile.gpu is None:
        return machine
    name = gpu.name if gpu else f"GPU {profile.gpu.number}, unknown to NVML"
    return f"{name} ({profile.gpu.provider}, {profile.gpu.precision}) in {machine}"


def _hash(*lines: str) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def _cpu_model() -> str:
    """Intel and AMD have ``model name``; Arm boards ``Model``, ``Hardware`` or a part number."""
    for key in ("model name", "Model", "Hardware", "CPU part"):
        if model := _cpuinfo(key):
            return model
    return platform.processor() or platform.machine()


def _cpu_flags() -> str:
    return " ".join(sorted(set((_cpuinfo("flags") or _cpuinfo("Features")).split())))


def _cpuinfo(key: str) -> str:
    """Return the first value of a field of ``/proc/cpuinfo``, or an empty string."""
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
