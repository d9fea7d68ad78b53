"""Copies a bundle to a device and runs it there on the bundle's own images."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.deploy.bundle import (
    Agreement,
    Manifest,
    compare_outputs,
    read_bundle,
    read_samples,
)
from hwnas.devices.limits import check_precision, check_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runners.programs import push_kit
from hwnas.devices.transports.transport import Transport, open_transport
from hwnas.errors import ExportError, UsageError
from hwnas.export.verification.run_model import file_outputs

TIMEOUT_S = 600.0


class Deployment(msgspec.Struct, frozen=True):
    """A bundle on a device, and how its outputs there compare."""

    target: str
    folder: str
    """Path on the device."""
    command: str
    """Command that runs it, to be typed on this machine."""
    agreement: Agreement


def deploy(bundle: Path, profile: DeviceProfile) -> Deployment:
    """Copy a bundle to a device, run it there on its samples, and compare outputs and accuracy.

    Phones run it with the native runner, hosts with ``run.py``. Raises `DeviceError` for a device
    that cannot be reached, `ExportError` if its outputs differ.
    """
    manifest = read_bundle(bundle)
    if manifest.runtime != profile.runtime:
        raise UsageError(
            f"{bundle}: compiled for {manifest.runtime}, but {profile.name} runs {profile.runtime}"
        )
    model = bundle / manifest.model
    check_size(str(model), model.stat().st_size, profile)
    check_precision(manifest.precision, profile)
    with open_transport(profile) as transport:
        folder = _push_all(transport, bundle, manifest)
        run = _on_phone if profile.transport == "adb" else _on_host
        outputs, command = run(transport, profile, bundle, manifest, folder)
    agreement = compare_outputs(outputs, read_samples(bundle), manifest)
    return Deployment(profile.name, folder, command, agreement)


def verify_outputs(bundle: Path) -> Agreement:
    """Check the hashes and outputs of a bundle on this machine."""
    manifest, samples = read_bundle(bundle), read_samples(bundle)
    outputs = file_outputs(bundle / manifest.model, samples.inputs)
    return compare_outputs(outputs, samples, manifest)


def _push_all(transport: Transport, bundle: Path, manifest: Manifest) -> str:
    """Copy every file, each content only once, to a folder named after the model's hash."""
    folder = f"{transport.folder}/bundle-{manifest.files[manifest.model][:16]}"
    commands = [f"mkdir -p {shlex.quote(folder)}"]
    for name in sorted({*manifest.files, "manifest.json"}):
        pushed = transport.push(bundle / name, name)
        commands.append(f"cp {shlex.quote(pushed)} {shlex.quote(f'{folder}/{name}')}")
    result = transport.shell(" && ".join(commands), limit_s=TIMEOUT_S)
    if result.status:
        raise ExportError(f"{transport.name}: cannot create {folder}: {result.last_line}")
    return folder


def _on_host(
    transport: Transport, profile: DeviceProfile, bundle: Path, manifest: Manifest, folder: str
) -> tuple[np.ndarray, str]:
    remote = profile.remote
    python = remote.python if remote else sys.executable
    command = [python, f"{folder}/run.py"]
    result = transport.run(command, limit_s=TIMEOUT_S)
    try:
        outputs = np.array(msgspec.json.decode(result.out)["outputs"], np.float32)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise ExportError(
            f"{transport.name}: run.py ended with status {result.status}: {result.last_line}"
        ) from None
    return outputs, shlex.join(transport.connection.user_command(shlex.join(command)))


def _on_phone(
    transport: Transport, profile: DeviceProfile, bundle: Path, manifest: Manifest, folder: str
) -> tuple[np.ndarray, str]:
    assert profile.remote is not None
    program, libraries = push_kit(transport, profile.remote, transport.probe(), manifest.runtime)
    output = f"{folder}/output.raw"
    outputs: list[np.ndarray] = []
    command: list[str] = []
    inputs = RUNTIMES[manifest.runtime].from_nchw(read_samples(bundle).inputs)
    with tempfile.TemporaryDirectory() as scratch:
        for number, image in enumerate(inputs):
            raw = Path(scratch) / f"{number}.raw"
            raw.write_bytes(image.astype(np.float32).tobytes())
            command = [
                *("env", f"LD_LIBRARY_PATH={libraries}", program),
                f"--graph={folder}/{manifest.model}",
                f"--input_file={transport.push(raw)}",
                f"--output_filepath={output}",
            ]
            result = transport.run(command, limit_s=TIMEOUT_S)
            if result.status or result.out.strip():
                raise ExportError(
                    f"{transport.name}: the runner ended with status {result.status}: "
                    f"{result.last_line}"
                )
            transport.pull(output, raw)
            outputs.append(np.frombuffer(raw.read_bytes(), np.float32))
    return np.stack(outputs), shlex.join(transport.connection.user_command(shlex.join(command)))
