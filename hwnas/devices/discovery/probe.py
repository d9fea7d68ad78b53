"""Makes a profile by probing a device: Android's properties, cpuinfo, nvidia-smi."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from hwnas.devices.discovery.attached import (
    MAX_ANSWER_BYTES,
    NvidiaGpu,
    Phone,
    attached_gpus,
    attached_phones,
    cuda_number,
)
from hwnas.devices.worker.runtimes.cuda import visibility_hint
from hwnas.errors import DeviceError, UsageError, last_line

TIMEOUT_S = 20.0
ARM_PARTS = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0d": "Cortex-A77",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
}
"""Part numbers of Arm's own cores (implementer 0x41), from Linux's arch/arm64 cputype.h."""

ANDROID_SCRIPT = "getprop; echo HWNAS_CPU; cat /proc/cpuinfo; echo HWNAS_MEMORY; cat /proc/meminfo"
LINUX_SCRIPT = "uname -m; echo HWNAS_CPU; cat /proc/cpuinfo; echo HWNAS_MEMORY; cat /proc/meminfo"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Processor(NamedTuple):
    """A CPU, from ``/proc/cpuinfo``."""

    model: str
    cores: int
    parts: tuple[str, ...]
    """Kinds of Arm cores, e.g. ``("Cortex-A55", "Cortex-A76")``."""


def probed_profile(name: str, source: str) -> str:
    """Probe ``here``, ``gpu[:N]``, ``adb[:SERIAL]`` or ``ssh:HOST``; returns a profile as TOML.

    Raises `DeviceError` for a device that does not answer, `UsageError` for another source.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r}: a device name consists of letters, digits and . _ -")
    kind, _, address = source.partition(":")
    if kind == "here" and not address:
        return to_toml(here(name))
    if kind == "gpu" and (not address or address.isdecimal()):
        return to_toml(gpu(name, _find_gpu(attached_gpus(), int(address or "0"))))
    if kind == "adb":
        return to_toml(android(name, _find_phone(attached_phones(), address)))
    if kind == "ssh" and address:
        return to_toml(linux(name, address, _ssh(address)))
    raise UsageError(f"--from {source!r}: expected here, gpu:N, adb, adb:SERIAL or ssh:HOST")


def to_toml(profile: dict[str, Any]) -> str:
    return (
        "# Written by `hwnas devices add`; check it, and add what a probe cannot find out.\n\n"
        + (tomli_w.dumps(profile))
    )


def here(name: str) -> dict[str, Any]:
    """Return the profile of this machine."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    memory = Path("/proc/meminfo").read_text(encoding="ascii", errors="replace")
    processor = parse_cpuinfo(text)
    return {
        "name": name,
        "title": f"{processor.model or 'this machine'}, ONNX Runtime",
        "kind": "cpu",
        "runtime": "onnxruntime",
        "transport": "local",
        "hardware": _hardware("probe of this machine", processor, parse_memory(memory)),
        "measure": {"threads": 1},
    }


def gpu(name: str, device: NvidiaGpu) -> dict[str, Any]:
    """Return the profile of a GPU. Raises `DeviceError` if CUDA does not see it."""
    number = cuda_number(device)
    if number is None:
        raise DeviceError(
            f"GPU {device.number} ({device.name}): CUDA does not see it{visibility_hint()}"
        )
    hardware: dict[str, Any] = {
        "source": f"probe by nvidia-smi, driver {device.driver}",
        "isa": f"compute capability {device.compute_capability}",
    }
    if device.clock_hz:
        hardware["clock_hz"] = device.clock_hz
    if device.memory_bytes:
        hardware["ram_bytes"] = device.memory_bytes
    return {
        "name": name,
        "title": f"{device.name}, ONNX Runtime's CUDA provider",
        "kind": "gpu",
        "runtime": "onnxruntime",
        "transport": "local",
        "hardware": hardware,
        "gpu": {"provider": "cuda", "number": number},
        "measure": {"threads": 1},
    }


def android(name: str, phone: Phone) -> dict[str, Any]:
    """Return the profile of an attached phone."""
    adb = shutil.which("adb")
    if adb is None:
        raise DeviceError("adb is not installed here: apt-get install adb")
    text = _run([adb, "-s", phone.serial, "shell", ANDROID_SCRIPT], phone.serial)
    properties, cpu, memory = _parts(text)
    values = parse_getprop(properties)
    maker = values.get("ro.product.manufacturer", "").strip()
    model = values.get("ro.product.model", phone.model or "Android device").strip()
    release = values.get("ro.build.version.release", "?")
    hardware = _hardware(
        f"probe by adb, Android {release}", parse_cpuinfo(cpu), parse_memory(memory)
    )
    if abi := values.get("ro.product.cpu.abi"):
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
    """Return the profile of a computer from the output of `LINUX_SCRIPT` there."""
    machine, cpu, memory = _parts(text)
    processor = parse_cpuinfo(cpu)
    hardware = _hardware(f"probe by ssh of {host}", processor, parse_memory(memory))
    hardware["isa"] = machine.strip()[:32] or "unknown"
    return {
        "name": name,
        "title": f"{processor.model or host}, LiteRT",
        "kind": "cpu",
        "runtime": "litert",
        "transport": "ssh",
        "hardware": hardware,
        "remote": {"host": host},
        "measure": {"threads": 1},
    }


def parse_getprop(text: str) -> dict[str, str]:
    """Parse Android's ``[name]: [value]`` lines."""
    return dict(re.findall(r"^\[([^\]\n]{1,128})\]: \[([^\n]{0,256})\]\r?$", text, re.MULTILINE))


def parse_cpuinfo(text: str) -> Processor:
    """Parse ``/proc/cpuinfo`` of x86, Arm boards and phones."""
    fields: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), []).append(value.strip())
    numbers = [value for value in fields.get("processor", []) if value.isdigit()]
    is_arm = "0x41" in fields.get("CPU implementer", [])
    parts = (
        sorted({ARM_PARTS.get(part, part) for part in fields.get("CPU part", [])}) if is_arm else []
    )
    name = next(
        (fields[key][0] for key in ("Model", "Hardware", "model name") if key in fields), ""
    )
    return Processor(model=name or ", ".join(parts), cores=len(numbers), parts=tuple(parts))


def parse_memory(text: str) -> int | None:
    """Return the bytes of ``MemTotal``."""
    match = re.search(r"^MemTotal:\s+(\d{1,12}) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def _hardware(source: str, processor: Processor, ram_bytes: int | None) -> dict[str, Any]:
    hardware: dict[str, Any] = {"source": source}
    if processor.parts:
        hardware["isa"] = ", ".join(processor.parts)
    if processor.cores:
        hardware["cores"] = processor.cores
    if ram_bytes:
        hardware["ram_bytes"] = ram_bytes
    return hardware


def _parts(text: str) -> tuple[str, str, str]:
    """Split the output of a script into system, CPU and memory; missing parts are empty."""
    head, _, rest = text.partition("HWNAS_CPU\n")
    cpu, _, memory = rest.partition("HWNAS_MEMORY\n")
    return head, cpu, memory


def _find_phone(phones: Sequence[Phone], serial: str) -> Phone:
    """Return the phone with that serial number, or the only phone. Raises `DeviceError`."""
    known = ", ".join(f"{phone.serial} ({phone.description})" for phone in phones) or "none"
    matches = [phone for phone in phones if not serial or phone.serial == serial]
    if not matches:
        raise DeviceError(
            f"no phone {serial or 'attached'}; the adb server lists: {known}; "
            "run `adb start-server` if no server runs"
        )
    if len(matches) > 1:
        raise DeviceError(f"several phones are attached, expected adb:SERIAL, one of: {known}")
    if matches[0].state != "device":
        raise DeviceError(f"{matches[0].serial}: {matches[0].description}")
    return matches[0]


def _find_gpu(gpus: Sequence[NvidiaGpu], number: int) -> NvidiaGpu:
    """Return the GPU of that number. Raises `DeviceError`."""
    for gpu in gpus:
        if gpu.number == number:
            return gpu
    known = ", ".join(f"{gpu.number} ({gpu.name})" for gpu in gpus) or "none"
    raise DeviceError(f"no GPU {number}; nvidia-smi lists: {known}")


def _ssh(host: str) -> str:
    if host.startswith("-"):
        raise UsageError(f"ssh:{host}: a host name cannot begin with -")
    ssh = shutil.which("ssh")
    if ssh is None:
        raise DeviceError("ssh is not installed here: apt-get install openssh-client")
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10")
    flags = [word for option in options for word in ("-o", option)]
    return _run([ssh, *flags, "--", host, LINUX_SCRIPT], host)


def _run(command: list[str], device: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{device}: no answer within {TIMEOUT_S:.0f} s") from None
    text = done.stdout[: 4 * MAX_ANSWER_BYTES].decode(errors="replace").replace("\r\n", "\n")
    if "HWNAS_MEMORY\n" not in text:
        last = last_line(done.stderr)
        raise DeviceError(f"{device}: the probe ended with status {done.returncode}: {last}")
    return text
