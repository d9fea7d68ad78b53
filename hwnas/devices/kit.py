"""Kits: the native runner and the runtime's library for one kind of device, ready to be pushed."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from hwnas.errors import DeviceError, UsageError
from hwnas.files import home, write_atomic
from hwnas.shipped import shipped

COMPILERS = {"x86_64": "gcc", "arm64-v8a": "aarch64-linux-gnu-gcc"}
LIBRARY = "libLiteRt.so"
MACHINES = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a", 243: "riscv64"}
"""ABIs by the machine number of ELF."""


def kit_folder(abi: str, own: dict[str, str]) -> Path:
    """Return the folder with ``litert_runner`` and its library for an ABI.

    Raises `DeviceError` that says how to make one.
    """
    folder = Path(own[abi]) if abi in own else home() / "kits" / abi
    missing = [one for one in ("litert_runner", LIBRARY) if not (folder / one).is_file()]
    if missing:
        raise DeviceError(
            f"{folder}: no native runner for {abi} ({', '.join(missing)} missing); `hwnas kit "
            f"--abi {abi}` makes it"
        )
    check_processor(folder / "litert_runner", abi)
    return folder


def check_processor(program: Path, abi: str) -> None:
    """Raise `DeviceError` for an ELF file of another processor than the device's.

    A shell would take such a file for a script of its own.
    """
    with open(program, "rb") as file:
        head = file.read(20)
    machine = MACHINES.get(int.from_bytes(head[18:20], "little"), "another processor")
    if head.startswith(b"\x7fELF") and machine != abi:
        raise DeviceError(
            f"{program.name} is built for {machine}, the device is a {abi}: {program}"
        )


def build_kit(abi: str, wheel: Path | None = None, compiler: str = "") -> Path:
    """Compile the native runner against the library of an ``ai-edge-litert`` wheel.

    Without ``wheel`` the library is that of the installed package, which is this machine's.
    Raises `UsageError` where compiler, wheel or library are not there or do not fit.
    """
    compiler = compiler or COMPILERS.get(abi, "")
    if not compiler:
        raise UsageError(f"--abi {abi}: expected one of {', '.join(COMPILERS)}, or name --compiler")
    if shutil.which(compiler) is None:
        package = "gcc" if compiler == "gcc" else "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
        raise UsageError(f"{compiler} is not installed here: apt-get install {package}")
    folder = home() / "kits" / abi
    library, of = _library(wheel)
    write_atomic(folder / LIBRARY, library)
    source = Path(str(shipped("export") / "kits"))
    command = [
        compiler, "-O2", "-Wall", "-Wextra", f'-DLITERT_VERSION="ai_edge_litert {of}, native"',
        str(source / "rounds.c"), str(source / "litert_runner.c"), "-I", str(source),
        "-L", str(folder), "-lLiteRt", "-lm", "-Wl,--allow-shlib-undefined",
        "-o", str(folder / "litert_runner"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise UsageError(f"{compiler} ended with status {done.returncode}: {last[0]}")
    return folder


def _library(wheel: Path | None) -> tuple[bytes, str]:
    """Return the library and its version."""
    if wheel is None:
        found = find_spec("ai_edge_litert")
        path = Path(found.origin).with_name(LIBRARY) if found and found.origin else Path(LIBRARY)
        if not path.is_file():
            raise UsageError("the native runner needs LiteRT: pip install ai-edge-litert")
        return path.read_bytes(), version("ai-edge-litert")
    try:
        with zipfile.ZipFile(wheel) as file:
            return file.read(f"ai_edge_litert/{LIBRARY}"), _plain(wheel.name.split("-")[1])
    except (OSError, zipfile.BadZipFile, KeyError, IndexError) as error:
        raise UsageError(
            f"{wheel}: not a wheel of ai-edge-litert with {LIBRARY} ({error})"
        ) from None


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c == ".")
