"""Pushes measuring programs, and the files that they measure, to a device."""

from __future__ import annotations

from pathlib import Path

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.external_data import files_beside
from hwnas.devices.profile import Remote
from hwnas.devices.runners.native_kit import KITS, check_processor, kit_folder
from hwnas.devices.transports.transport import DeviceFacts, Transport
from hwnas.devices.worker.archive import worker_archive
from hwnas.errors import DeviceError, UsageError
from hwnas.files import home, write_atomic


def push_kit(
    transport: Transport, remote: Remote, facts: DeviceFacts, runtime: RuntimeName
) -> tuple[str, str]:
    """Push the native runner and its library; returns its path and the library's folder."""
    kit, folder = KITS[runtime], kit_folder(facts.abi, remote.kits, runtime)
    library = transport.push(folder / kit.library, kit.library)
    return transport.push(folder / kit.program, kit.program), library.rpartition("/")[0]


def push_worker(transport: Transport) -> str:
    """Push the Python worker; returns its path on the device."""
    write_atomic(home() / "worker.pyz", worker_archive())
    return transport.push(home() / "worker.pyz", "worker.pyz")


def push_model(transport: Transport, path: Path) -> str:
    """Push a model file, and beside it the files of its weights; returns its path there."""
    model = transport.push(path)
    weights = files_beside(path)
    if not weights:
        return model
    folder = f"{model.rpartition('/')[0]}/with-weights"
    pushed = {f"model{path.suffix}": model}
    pushed |= {file.name: transport.push(file, file.name) for file in weights}
    return f"{transport.gather(folder, pushed)}/model{path.suffix}"


def benchmark_binary(transport: Transport, remote: Remote, facts: DeviceFacts) -> str:
    """Push the user's ``benchmark_model``; returns its path on the device."""
    return transport.push(_binary_for(remote.benchmark_binary, facts), "benchmark")


def _binary_for(files: dict[str, str], facts: DeviceFacts) -> Path:
    name = files.get(facts.abi) or files.get("any")
    if name is None:
        raise DeviceError(
            f"the profile has no benchmark_binary for {facts.abi}, only for "
            f"{', '.join(sorted(files)) or 'none'}"
        )
    program = Path(name)
    if not program.is_file():
        raise UsageError(f"{program}: no such file; the profile names it as benchmark_binary")
    check_processor(program, facts.abi)
    return program
