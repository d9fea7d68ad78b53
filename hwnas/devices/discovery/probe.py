"""A profile from what a device says of itself: Android's properties, cpuinfo, nvidia-smi."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from hwnas.devices.discovery.attached import (
    LONGEST,
    NvidiaGpu,
    Phone,
    attached_gpus,
    attached_phones,
    cuda_number,
)
from hwnas.devices.worker.runtimes.cuda import restricted
from hwnas.errors import DeviceError, UsageError

PATIENCE_S = 20.0
ARM_PARTS = {
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77", "0xd41": "Cortex-A78", "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1",
}  # fmt: skip
"""Part numbers of Arm's own cores (implementer 0x41), as Linux's arch/arm64 cputype.h has them."""

ASK = "getprop; echo HWNAS_CPU; cat /proc/cpuinfo; echo HWNAS_MEMORY; cat /proc/meminfo"
ASK_LINUX = "uname -m; echo HWNAS_CPU; cat /proc/cpuinfo; echo HWNAS_MEMORY; cat /proc/meminfo"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Processor(NamedTuple):
    model: str
    cores: int
    parts: tuple[str, ...]
    """Kinds of Arm cores, e.g. ``("Cortex-A55", "Cortex-A76")``."""


def probed_profile(name: str, source: str) -> str:
    """Return the TOML of a profile for ``here``, ``gpu[:N]``, ``adb[:SERIAL]`` or ``ssh:HOST``.

    Raises `DeviceError` for a device that is not there, `UsageError` for another source.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a device's name has letters, digits and . _ - only")
    kind, _, which = source.partition(":")
    if kind == "here" and not which:
        return to_toml(here(name))
    if kind == "gpu" and (not which or which.isdecimal()):
        return to_toml(gpu(name, _gpu(attached_gpus(), int(which or "0"))))
    if kind == "adb":
        return to_toml(android(name, _one(attached_phones(), which)))
    if kind == "ssh" and which:
        return to_toml(linux(name, which, _ssh(which)))
    raise UsageError(f"--from {source!r}: expected here, gpu:N, adb, adb:SERIAL or ssh:HOST")


def to_toml(profile: dict[str, Any]) -> str:
    return "# Written by `hwnas devices add`; check it and add what the probe can't know.\n\n" + (
        tomli_w.dumps(profile)
    )


def here(name: str) -> dict[str, Any]:
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    memory = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    found = parse_cpuinfo(text)
    return {
        "name": name,
        "title": f"{found.model or 'this machine'}, ONNX Runtime",
        "kind": "cpu",
        "runtime": "onnxruntime",
        "transport": "local",
        "hardware": _hardware("probe of this machine", found, parse_memory(memory)),
        "measure": {"threads": 1},
    }


def gpu(name: str, found: NvidiaGpu) -> dict[str, Any]:
    """Return the profile of a GPU. Raises `DeviceError` for one that CUDA does not see."""
    number = cuda_number(found)
    if number is None:
        raise DeviceError(f"GPU {found.number} ({found.name}): CUDA does not see it{restricted()}")
    hardware: dict[str, Any] = {
        "source": f"probe by nvidia-smi, driver {found.driver}",
        "isa": f"compute capability {found.compute_capability}",
    }
    if found.clock_hz:
        hardware["clock_hz"] = found.clock_hz
    if found.memory_bytes:
        hardware["ram_bytes"] = found.memory_bytes
    return {
        "name": name,
        "title": f"{found.name}, ONNX Runtime's CUDA provider",
        "kind": "gpu",
        "runtime": "onnxruntime",
        "transport": "local",
        "hardware": hardware,
        "gpu": {"provider": "cuda", "number": number},
        "measure": {"threads": 1},
    }


def android(name: str, phone: Phone) -> dict[str, Any]:
    adb = shutil.which("adb")
    if adb is None:
        raise DeviceError("adb is not installed here: apt-get install adb")
    text = _run([adb, "-s", phone.serial, "shell", ASK], phone.serial)
    properties, cpu, memory = _parts(text)
    said = parse_getprop(properties)
    found = parse_cpuinfo(cpu)
    maker = said.get("ro.product.manufacturer", "").strip()
    model = said.get("ro.product.model", phone.model or "Android device").strip()
    release = said.get("ro.build.version.release", "?")
    hardware = _hardware(f"probe by adb, Android {release}", found, parse_memory(memory))
    if abi := said.get("ro.product.cpu.abi"):
        hardware["isa"] = abi
    return {
        "name": name,
        "title": f"{maker} {model}, LiteRT".strip(),
        "kind": "android",
        "runtime": "litert",
        "transport": "adb",
        "hardware": hardware,
        "remote": {"serial": phone.serial},
        "measure": {"threads": 1},
    }


def linux(name: str, host: str, text: str) -> dict[str, Any]:
    machine, cpu, memory = _parts(text)
    found = parse_cpuinfo(cpu)
    hardware = _hardware(f"probe by ssh of {host}", found, parse_memory(memory))
    hardware["isa"] = machine.strip()[:32] or "unknown"
    return {
        "name": name,
        "title": f"{found.model or host}, LiteRT",
        "kind": "cpu",
        "runtime": "litert",
        "transport": "ssh",
        "hardware": hardware,
        "remote": {"host": host},
        "measure": {"threads": 1},
    }


def parse_getprop(text: str) -> dict[str, str]:
    """Read Android's ``[name]: [value]`` lines."""
    return dict(re.findall(r"^\[([^\]\n]{1,128})\]: \[([^\n]{0,256})\]\r?$", text, re.MULTILINE))


def parse_cpuinfo(text: str) -> Processor:
    """Read /proc/cpuinfo of x86, of Arm boards and of phones."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), []).append(value.strip())
    numbers = [value for value in fields.get("processor", []) if value.isdigit()]
    own = "0x41" in fields.get("CPU implementer", [])
    parts = (
        sorted({ARM_PARTS.get(part, part) for part in fields.get("CPU part", [])}) if own else []
    )
    named = next(
        (fields[key][0] for key in ("Model", "Hardware", "model name") if key in fields), ""
    )
    return Processor(model=named or ", ".join(parts), cores=len(numbers), parts=tuple(parts))


def parse_memory(text: str) -> int | None:
    """Return the bytes of ``MemTotal``."""
    found = re.search(r"^MemTotal:\s+(\d{1,12}) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _hardware(source: str, found: Processor, memory: int | None) -> dict[str, Any]:
    hardware: dict[str, Any] = {"source": source}
    if found.parts:
        hardware["isa"] = ", ".join(found.parts)
    if found.cores:
        hardware["cores"] = found.cores
    if memory:
        hardware["ram_bytes"] = memory
    return hardware


def _parts(text: str) -> tuple[str, str, str]:
    """Split the answer to `ASK`; what is missing is empty."""
    head, _, rest = text.partition("HWNAS_CPU\n")
    cpu, _, memory = rest.partition("HWNAS_MEMORY\n")
    return head, cpu, memory


def _one(phones: Sequence[Phone], serial: str) -> Phone:
    """Return the phone of that serial, or the only one. Raises `DeviceError`."""
    known = ", ".join(f"{one.serial} ({one.said})" for one in phones) or "none"
    found = [one for one in phones if not serial or one.serial == serial]
    if not found:
        raise DeviceError(
            f"no phone {serial or 'attached'}; by the adb server: {known}; "
            "`adb start-server` if none runs"
        )
    if len(found) > 1:
        raise DeviceError(f"several phones are attached, say which: adb:SERIAL; {known}")
    if found[0].state != "device":
        raise DeviceError(f"{found[0].serial}: {found[0].said}")
    return found[0]


def _gpu(gpus: Sequence[NvidiaGpu], number: int) -> NvidiaGpu:
    """Return the GPU of that number. Raises `DeviceError`."""
    for one in gpus:
        if one.number == number:
            return one
    known = ", ".join(f"{one.number} ({one.name})" for one in gpus) or "none"
    raise DeviceError(f"no GPU {number}; by nvidia-smi: {known}")


def _ssh(host: str) -> str:
    if host.startswith("-"):
        raise UsageError(f"ssh:{host}: a host does not begin with -")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise DeviceError("ssh is not installed here: apt-get install openssh-client")
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10")
    flags = [word for option in options for word in ("-o", option)]
    return _run([ssh, *flags, "--", host, ASK_LINUX], host)


def _run(command: list[str], device: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{device}: no answer within {PATIENCE_S:.0f} s") from None
    text = done.stdout[: 4 * LONGEST].decode(errors="replace").replace("\r\n", "\n")
    if "HWNAS_MEMORY\n" not in text:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise DeviceError(f"{device}: the probe ended with status {done.returncode}: {last[0]}")
    return text
