"""Diagnoses what prevents or disturbs measuring, with advice."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwnas.devices.discovery.attached import attached_gpus, attached_phones
from hwnas.devices.discovery.check import Check
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.worker.conditions import too_few_cores
from hwnas.errors import HwnasError
from hwnas.files import home
from hwnas.processes import check_cluster

MIN_FREE_BYTES = 2_000_000_000
"""Free disk space below which a run may fail."""
MAX_LOAD_PER_CORE = 0.3
"""Load above which other programs disturb a measurement."""
MAX_TEMPERATURE_C = 80.0
MIN_CLOCK_SHARE = 0.7
"""Share of its highest clock below which a CPU is throttled or saves power."""


def examine(profile: DeviceProfile | None = None, root: Path = Path("/")) -> list[Check]:
    """Examine this machine, and the connection to a device; ``root`` holds ``sys``, ``proc``."""
    checks = [*_packages(), *_tools(), *_conditions(root), _disk(), *_attached()]
    if profile is not None:
        checks += _device(profile)
    return checks


def _packages() -> list[Check]:
    checks: list[Check] = []
    for package, needed in (("onnxruntime", "1.18"), ("ai-edge-litert", "2.1")):
        installed = _version(package)
        if package == "onnxruntime" and installed is None and _version("onnxruntime-gpu"):
            installed = f"onnxruntime-gpu {_version('onnxruntime-gpu')}"
        if installed:
            checks.append(Check(package, "ok", installed))
        else:
            advice = f'pip install "{package}>={needed}"'
            checks.append(Check(package, "failed", "not installed", advice))
    if _version("onnxruntime") and _version("onnxruntime-gpu"):
        checks.append(
            Check(
                "onnxruntime-gpu",
                "failed",
                "installed beside onnxruntime, in the same folder",
                "pip uninstall onnxruntime onnxruntime-gpu; pip install onnxruntime-gpu",
            )
        )
    return checks


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _tools() -> list[Check]:
    packages = {
        "adb": "for Android phones: apt-get install adb",
        "ssh": "for boards and servers: apt-get install openssh-client",
        "gcc": "for the native runner: apt-get install gcc",
        "aarch64-linux-gnu-gcc": "for the native runner on arm64: apt-get install "
        "gcc-aarch64-linux-gnu",
    }
    return [
        Check(tool, "ok", path) if path else Check(tool, "note", "not installed", advice)
        for tool, advice in packages.items()
        for path in (shutil.which(tool),)
    ]


def _conditions(root: Path) -> list[Check]:
    """Check what disturbs latencies; values that the system does not report are skipped."""
    checks: list[Check] = []
    clock = root / "sys/devices/system/cpu/cpu0/cpufreq"
    if governor := _text(clock / "scaling_governor"):
        good = governor == "performance"
        advice = "" if good else "cpupower frequency-set -g performance (as root)"
        checks.append(Check("governor", "ok" if good else "warning", governor, advice))
    else:
        checks.append(Check("governor", "note", "not reported by this system"))
    clock_khz, max_khz = _number(clock / "scaling_cur_freq"), _number(clock / "cpuinfo_max_freq")
    if clock_khz and max_khz:
        slow = clock_khz / max_khz < MIN_CLOCK_SHARE
        advice = "cool it, or set the governor" if slow else ""
        detail = f"{clock_khz / 1e6:.2f} of {max_khz / 1e6:.2f} GHz"
        checks.append(Check("clock", "warning" if slow else "ok", detail, advice))
    temperatures_c = [
        millidegrees / 1e3
        for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        if (millidegrees := _number(zone / "temp")) is not None
    ]
    if temperatures_c:
        hot = max(temperatures_c) >= MAX_TEMPERATURE_C
        advice = "let it cool down" if hot else ""
        checks.append(
            Check(
                "temperature", "warning" if hot else "ok", f"{max(temperatures_c):.0f} °C", advice
            )
        )
    checks += _load(root)
    return checks


def _load(root: Path) -> list[Check]:
    words = _text(root / "proc/loadavg").split()
    if not words:
        return []
    load, cores = float(words[0]), os.cpu_count() or 1
    busy = load / cores > MAX_LOAD_PER_CORE
    advice = "close other programs, leave one core free" if busy else ""
    detail = f"{load:.2f} on {cores} processors"
    return [Check("load", "warning" if busy else "ok", detail, advice)]


def _disk() -> Check:
    folder = next(path for path in (home(), *home().parents) if path.exists())
    free = shutil.disk_usage(folder).free
    low = free < MIN_FREE_BYTES
    advice = "free some space, or set HWNAS_HOME to a folder on another disk" if low else ""
    detail = f"{free / 1e9:.1f} GB free in {folder}"
    return Check("disk", "warning" if low else "ok", detail, advice)


def _attached() -> list[Check]:
    phones = [
        Check(
            f"phone {phone.serial}",
            "ok" if phone.state == "device" else "warning",
            f"{phone.model} {phone.state}".strip(),
            "" if phone.state == "device" else phone.description,
        )
        for phone in attached_phones()
    ]
    gpus = [
        Check(f"GPU {gpu.number}", "ok", f"{gpu.name}, driver {gpu.driver}")
        for gpu in attached_gpus()
    ]
    return [*phones, *gpus]


def _device(profile: DeviceProfile) -> list[Check]:
    """Check the connection to a device, and that this machine can do what its profile needs."""
    checks: list[Check] = []
    if profile.transport == "adb":
        ready = [phone for phone in attached_phones() if phone.state == "device"]
        if not ready:
            advice = "plug it in, allow USB debugging, accept the key; `adb devices` must list it"
            checks.append(Check(profile.name, "failed", "no authorised phone is attached", advice))
        elif len(ready) > 1:
            serials = ", ".join(phone.serial for phone in ready)
            advice = "give [remote] serial in the profile"
            checks.append(Check(profile.name, "warning", f"several phones: {serials}", advice))
        else:
            checks.append(Check(profile.name, "ok", f"{ready[0].serial} is attached"))
    elif profile.transport == "ssh" and not shutil.which("ssh"):
        advice = "apt-get install openssh-client"
        checks.append(Check(profile.name, "failed", "ssh is not installed", advice))
    elif profile.cluster is not None:
        try:
            check_cluster(profile.cluster.address, "[cluster] address")
            checks.append(Check(profile.name, "ok", f"{profile.cluster.address} answers"))
        except HwnasError as error:
            checks.append(Check(profile.name, "failed", str(error), "ray start --head --port PORT"))
    if profile.transport == "local" and (problem := too_few_cores(profile.measure.threads)):
        checks.append(Check("threads", "failed", *problem))
    if profile.gpu is not None and profile.transport == "local":
        from hwnas.devices.discovery.gpu_checks import examine_gpu

        checks += examine_gpu(profile.name, profile.gpu)
    return checks


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
