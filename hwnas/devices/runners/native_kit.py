"""Kits: the native runner and the runtime's library, compiled for one ABI."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import DeviceError, UsageError, last_line
from hwnas.files import home, write_atomic
from hwnas.shipped import shipped

COMPILERS = {"x86_64": "gcc", "arm64-v8a": "aarch64-linux-gnu-gcc"}
MACHINES = {3: "x86", 40: "armeabi-v7a", 62: "x86_64", 183: "arm64-v8a", 243: "riscv64"}
"""ABIs by the machine number of ELF."""


class Kit(NamedTuple):
    """Source and library of the native runner of one runtime."""

    package: str
    """Package on PyPI whose wheel holds the library."""
    library: str
    """File name of the library on the device."""
    program: str
    source: str


KITS: dict[str, Kit] = {
    "litert": Kit("ai-edge-litert", "libLiteRt.so", "litert_runner", "litert_runner.c"),
    "onnxruntime": Kit(
        "onnxruntime", "libonnxruntime.so.1", "onnxruntime_runner", "onnxruntime_runner.c"
    ),
}


def kit_folder(abi: str, folders: dict[str, str], runtime: str = "litert") -> Path:
    """Return the folder with the native runner of a runtime and its library for an ABI.

    Raises `DeviceError` where it is missing, with the command that builds it.
    """
    folder, kit = Path(folders[abi]) if abi in folders else home() / "kits" / abi, KITS[runtime]
    missing = [name for name in (kit.program, kit.library) if not (folder / name).is_file()]
    if missing:
        more = "" if runtime == "litert" else f" --runtime {runtime}"
        raise DeviceError(
            f"{folder}: no native runner for {abi} ({', '.join(missing)} missing); `hwnas kit "
            f"--abi {abi}{more}` builds it"
        )
    check_processor(folder / kit.program, abi)
    return folder


def check_processor(program: Path, abi: str) -> None:
    """Raise `DeviceError` for an ELF file that is built for another processor.

    A shell would try to run such a file as a script.
    """
    with open(program, "rb") as file:
        head = file.read(20)
    machine = MACHINES.get(int.from_bytes(head[18:20], "little"), "another processor")
    if head.startswith(b"\x7fELF") and machine != abi:
        raise DeviceError(
            f"{program.name} is built for {machine}, the device is a {abi}: {program}"
        )


def build_kit(
    abi: str, wheel: Path | None = None, compiler: str = "", runtime: str = "litert"
) -> Path:
    """Compile the native runner against the library in a wheel of ai-edge-litert or onnxruntime.

    Without ``wheel`` it takes the library of the installed package, which fits this machine only.
    Raises `UsageError` where compiler, wheel or library is missing or does not fit.
    """
    compiler = compiler or COMPILERS.get(abi, "")
    if not compiler:
        raise UsageError(f"--abi {abi}: expected one of {', '.join(COMPILERS)}, or give --compiler")
    if shutil.which(compiler) is None:
        package = "gcc" if compiler == "gcc" else "gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
        raise UsageError(f"{compiler} is not installed here: apt-get install {package}")
    kit, folder = KITS[runtime], home() / "kits" / abi
    library, library_version = _library(kit, wheel)
    write_atomic(folder / kit.library, library)
    source = Path(str(shipped("export") / "kits"))
    command = [
        compiler,
        *("-O2", "-Wall", "-Wextra"),
        f'-DLITERT_VERSION="ai_edge_litert {library_version}, native"',
        *(str(source / "rounds.c"), str(source / kit.source), "-I", str(source)),
        *("-L", str(folder), f"-l:{kit.library}", "-lm", "-Wl,--allow-shlib-undefined"),
        *("-o", str(folder / kit.program)),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = last_line(done.stderr)
        raise UsageError(f"{compiler} ended with status {done.returncode}: {last}")
    return folder


def _library(kit: Kit, wheel: Path | None) -> tuple[bytes, str]:
    """Return the library and its version; in the package its file name may end in the version."""
    module = kit.package.replace("-", "_")
    inside = (
        f"{module}/capi/{kit.library}" if module == "onnxruntime" else f"{module}/{kit.library}"
    )
    if wheel is None:
        spec = find_spec(module)
        root = Path(spec.origin).parents[1] if spec and spec.origin else Path()
        files = sorted((root / inside).parent.glob(f"{kit.library}*"))
        if not files:
            raise UsageError(f"the native runner needs {kit.package}: pip install {kit.package}")
        return files[0].read_bytes(), _version(kit.package)
    try:
        with zipfile.ZipFile(wheel) as file:
            name = min(name for name in file.namelist() if name.startswith(inside))
            return file.read(name), _without_quotes(wheel.name.split("-")[1])
    except (OSError, zipfile.BadZipFile, ValueError, IndexError) as error:
        raise UsageError(
            f"{wheel}: not a wheel of {kit.package} with {kit.library} ({error})"
        ) from None


def _version(package: str) -> str:
    """Return a package's version; ``onnxruntime-gpu`` and others provide the same module."""
    names = packages_distributions().get(package.replace("-", "_"), [package])
    return version(package if package in names else names[0])


def _without_quotes(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c == ".")
