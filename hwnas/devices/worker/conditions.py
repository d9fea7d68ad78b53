"""Hardware and state of the measuring machine; standard library only."""

from __future__ import annotations

import os
import platform
from typing import Any


def machine() -> dict[str, Any]:
    """Return CPU and system."""
    names = [
        line.split(":", 1)[1].strip()
        for line in _read("/proc/cpuinfo").splitlines()
        if line.startswith(("model name", "Model", "Hardware"))
    ]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def conditions() -> dict[str, Any]:
    """Read the conditions of a measurement; ``None`` for values that this system does not
    report."""
    core = min(allowed_cores(), default=0)
    folder = f"/sys/devices/system/cpu/cpu{core}/cpufreq"
    clock_khz = _number(f"{folder}/scaling_cur_freq")
    return {
        "governor": _read(f"{folder}/scaling_governor") or None,
        "frequency_mhz": clock_khz / 1e3 if clock_khz else _cpuinfo_mhz(core),
        "temperature_c": _temperature_c(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "steal_s": _steal_s(),
    }


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return the conditions during a measurement from those at its start and its end."""
    steal = None
    if before["steal_s"] is not None and after["steal_s"] is not None:
        steal = round(after["steal_s"] - before["steal_s"], 3)
    return {
        **{key: after[key] for key in ("governor", "frequency_mhz", "temperature_c")},
        "load_before": before["load"],
        "load_after": after["load"],
        "steal_s": steal,
    }


def too_few_cores(threads: int) -> tuple[str, str] | None:
    """Return the problem and advice for more threads than cores that this process may use."""
    cores = allowed_cores() or set(range(os.cpu_count() or threads))
    if threads <= len(cores):
        return _above_quota(threads)
    names, plural = ", ".join(map(str, sorted(cores))), "s" if len(cores) > 1 else ""
    return (
        f"{threads} threads on {len(cores)} core{plural} ({names}), where they would take turns",
        "allow this process more cores (taskset, the cpuset of a container), or reduce threads in "
        "[measure]",
    )


def _above_quota(threads: int) -> tuple[str, str] | None:
    quota = cpu_quota()
    if quota is None or quota >= threads:
        return None
    return (
        f"{threads} thread{'s' if threads > 1 else ''} on {quota:g} cores' time, the quota of this "
        "process's control group (cpu.max), which stops them in the middle of calls",
        "raise the quota (docker run --cpus, CPUQuota=), or reduce threads in [measure]",
    )


def cpu_quota(root: str = "/") -> float | None:
    """Return the number of cores that control groups allow this process, None without a limit.

    It is the least over the process's own group and those above it, of either version.
    """
    quotas: list[float] = []
    for line in _read(f"{root}/proc/self/cgroup").splitlines():
        controllers, _, group = line.partition(":")[2].partition(":")
        if controllers == "":
            base = f"{root}/sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            base = f"{root}/sys/fs/cgroup/{controllers}"
        else:
            continue
        parts = [part for part in group.split("/") if part]
        for depth in range(len(parts) + 1):
            quotas += _quota("/".join([base, *parts[:depth]]))
    return min(quotas, default=None)


def _quota(folder: str) -> list[float]:
    words = _read(f"{folder}/cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return [int(words[0]) / int(words[1])]
    quota, period = (_number(f"{folder}/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return [quota / period] if quota and period and quota > 0 else []


def allowed_cores() -> set[int]:
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else set()


def _cpuinfo_mhz(core: int) -> float | None:
    clocks = [
        float(line.split(":")[1])
        for line in _read("/proc/cpuinfo").splitlines()
        if line.startswith("cpu MHz")
    ]
    return clocks[core] if core < len(clocks) else None


def _temperature_c() -> float | None:
    """Return the temperature of the hottest thermal zone."""
    root = "/sys/class/thermal"
    zones = os.listdir(root) if os.path.isdir(root) else []
    millidegrees = [
        _number(f"{root}/{zone}/temp") for zone in zones if zone.startswith("thermal_zone")
    ]
    return max((value / 1e3 for value in millidegrees if value is not None), default=None)


def _steal_s() -> float | None:
    """Return the time that the hypervisor took from the allowed cores since boot."""
    allowed = {f"cpu{core}" for core in allowed_cores()}
    rows = [line.split() for line in _read("/proc/stat").splitlines() if line.startswith("cpu")]
    ticks = [int(row[8]) for row in rows if row[0] in allowed and len(row) > 8]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def _number(path: str) -> float | None:
    try:
        return float(_read(path))
    except ValueError:
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
