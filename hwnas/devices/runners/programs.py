"""The programs that measure on a device: pushed there by content, built for its processor."""

from __future__ import annotations

from pathlib import Path

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.profile import Remote
from hwnas.devices.runners.native_kit import KITS, check_processor, kit_folder
from hwnas.devices.transports.transport import Facts, Transport
from hwnas.devices.worker.archive import worker_archive
from hwnas.errors import DeviceError, UsageError
from hwnas.files import home, write_atomic


def push_kit(
    transport: Transport, remote: Remote, facts: Facts, runtime: RuntimeName
) -> tuple[str, str]:
    """Push the native runner and its library; returns its path and the library's folder there."""
    kit, folder = KITS[runtime], kit_folder(facts.abi, remote.kits, runtime)
    library = transport.push(folder / kit.library, kit.library)
    return transport.push(folder / kit.program, kit.program), library.rpartition("/")[0]


def push_worker(transport: Transport) -> str:
    """Push the Python worker; returns its path there."""
    write_atomic(home() / "worker.pyz", worker_archive())
    return transport.push(home() / "worker.pyz", "worker.pyz")


def benchmark_binary(transport: Transport, remote: Remote, facts: Facts) -> str:
    """Push the user's ``benchmark_model``; returns its path there."""
    return transport.push(_of_abi(remote.benchmark_binary, facts), "benchmark")


def _of_abi(files: dict[str, str], facts: Facts) -> Path:
    found = files.get(facts.abi) or files.get("any")
    if found is None:
        raise DeviceError(
            f"no benchmark_binary for {facts.abi} in the profile; there is one for "
            f"{', '.join(sorted(files)) or 'none'}"
        )
    program = Path(found)
    if not program.is_file():
        raise UsageError(f"{program}: no such file; it is the profile's benchmark_binary")
    check_processor(program, facts.abi)
    return program
