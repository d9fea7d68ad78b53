"""What stands in the way of measuring, and what to do about it."""

from __future__ import annotations

import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hwnas.devices.discovery.attached import attached_gpus, attached_phones
from hwnas.devices.discovery.check import Check
from hwnas.devices.profile import DeviceProfile
from hwnas.files import home

FREE_BYTES = 2_000_000_000
"""Free disk space below which a run may end early."""
BUSY = 0.3
"""Load for each logical processor from which others disturb a measurement."""
HOT_C = 80.0
SLOW = 0.7
"""Share of its highest clock below which a processor is throttled or saves power."""


def examine(profile: DeviceProfile | None = None, root: Path = Path("/")) -> list[Check]:
    """Examine this machine, and the way to a device; ``root`` holds ``sys`` and ``proc``."""
    checks = [*_packages(), *_tools(), *_conditions(root), _space(), *_attached()]
    if profile is not None:
        checks += _device(profile)
    return checks


def _packages() -> list[Check]:
    checks: list[Check] = []
    for package, needed in (("onnxruntime", "1.18"), ("ai-edge-litert", "2.1")):
        found = _version(package)
        advice = f'pip install "{package}>={needed}"' if found is None else ""
        state = "ok" if found else "failed"
        if package == "onnxruntime" and found is None and _version("onnxruntime-gpu"):
            state, found, advice = "ok", f"onnxruntime-gpu {_version('onnxruntime-gpu')}", ""
        checks.append(Check(package, state, found or "not installed", advice))
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
    wanted = {
        "adb": "for Android phones: apt-get install adb",
        "ssh": "for boards and servers: apt-get install openssh-client",
        "gcc": "for the native runner: apt-get install gcc",
        "aarch64-linux-gnu-gcc": "for the native runner on arm64: apt-get install "
        "gcc-aarch64-linux-gnu",
    }
    return [
        Check(tool, "ok" if found else "note", found or "not installed", "" if found else advice)
        for tool, advice in wanted.items()
        for found in (shutil.which(tool),)
    ]


def _conditions(root: Path) -> list[Check]:
    """Say what disturbs latencies here; what a system doesn't tell is not judged."""
    checks: list[Check] = []
    clock = root / "sys/devices/system/cpu/cpu0/cpufreq"
    if governor := _text(clock / "scaling_governor"):
        good = governor == "performance"
        advice = "" if good else "cpupower frequency-set -g performance (as root)"
        checks.append(Check("governor", "ok" if good else "warning", governor, advice))
    else:
        checks.append(Check("governor", "note", "this system does not say"))
    now, most = _number(clock / "scaling_cur_freq"), _number(clock / "cpuinfo_max_freq")
    if now and most:
        slow = now / most < SLOW
        advice = "cool it, or set the governor" if slow else ""
        said = f"{now / 1e6:.2f} of {most / 1e6:.2f} GHz"
        checks.append(Check("clock", "warning" if slow else "ok", said, advice))
    heats = [
        heat / 1e3
        for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        if (heat := _number(zone / "temp")) is not None
    ]
    if heats:
        hot = max(heats) >= HOT_C
        advice = "let it cool down" if hot else ""
        checks.append(
            Check("temperature", "warning" if hot else "ok", f"{max(heats):.0f} °C", advice)
        )
    checks += _load(root)
    return checks


def _load(root: Path) -> list[Check]:
    words = _text(root / "proc/loadavg").split()
    if not words:
        return []
    load, cores = float(words[0]), os.cpu_count() or 1
    busy = load / cores > BUSY
    advice = "close other programs, leave one core free" if busy else ""
    found = f"{load:.2f} on {cores} processors"
    return [Check("load", "warning" if busy else "ok", found, advice)]


def _space() -> Check:
    folder = next(one for one in (home(), *home().parents) if one.exists())
    free = shutil.disk_usage(folder).free
    little = free < FREE_BYTES
    advice = "free some, or set HWNAS_HOME to another disk" if little else ""
    found = f"{free / 1e9:.1f} GB free in {folder}"
    return Check("disk", "warning" if little else "ok", found, advice)


def _attached() -> list[Check]:
    phones = [
        Check(
            f"phone {one.serial}",
            "ok" if one.state == "device" else "warning",
            f"{one.model} {one.state}".strip(),
            "" if one.state == "device" else one.said,
        )
        for one in attached_phones()
    ]
    gpus = [
        Check(f"GPU {one.number}", "ok", f"{one.name}, driver {one.driver}")
        for one in attached_gpus()
    ]
    return [*phones, *gpus]


def _device(profile: DeviceProfile) -> list[Check]:
    """Check the way to a device and what is asked of it."""
    checks: list[Check] = []
    if profile.transport == "adb":
        ready = [one for one in attached_phones() if one.state == "device"]
        if not ready:
            advice = "plug it in, allow USB debugging, accept the key, `adb devices`"
            checks.append(Check(profile.name, "failed", "no authorised phone is attached", advice))
        elif len(ready) > 1:
            said = ", ".join(one.serial for one in ready)
            checks.append(Check(profile.name, "warning", f"several phones: {said}", "say which"))
        else:
            checks.append(Check(profile.name, "ok", f"{ready[0].serial} is attached"))
    elif profile.transport == "ssh" and not shutil.which("ssh"):
        advice = "apt-get install openssh-client"
        checks.append(Check(profile.name, "failed", "no ssh here", advice))
    if profile.transport == "local" and profile.measure.threads > (os.cpu_count() or 1):
        found = f"{profile.measure.threads} threads on {os.cpu_count()} processors"
        checks.append(Check("threads", "warning", found, "ask for fewer in [measure]"))
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
