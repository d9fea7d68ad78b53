"""Bringing a bundle to a device, and running it there on the bundle's own images."""

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
    agreement,
    read_bundle,
    read_samples,
    run_here,
)
from hwnas.devices.limits import check_precision, check_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runners.programs import push_kit
from hwnas.devices.transports.transport import Transport, open_transport
from hwnas.errors import ExportError, UsageError

RUN_S = 600.0


class Deployed(msgspec.Struct, frozen=True):
    """Where a bundle is now, and what it computed there."""

    target: str
    folder: str
    """On the device."""
    command: str
    """That runs it, typed here."""
    agreement: Agreement


def deploy(bundle: Path, profile: DeviceProfile) -> Deployed:
    """Push a bundle, run it on its images there, compare outputs and accuracy.

    Phones run it by the native runner, hosts by ``run.py``. Raises `DeviceError` for a device that
    is not there, `ExportError` where it computes something else.
    """
    manifest = read_bundle(bundle)
    if manifest.runtime != profile.runtime:
        raise UsageError(
            f"{bundle}: made for {manifest.runtime}, {profile.name} runs {profile.runtime}"
        )
    model = bundle / manifest.model
    check_size(str(model), model.stat().st_size, profile)
    check_precision(manifest.precision, profile)
    with open_transport(profile) as transport:
        folder = _push_all(transport, bundle, manifest)
        run = _on_phone if profile.transport == "adb" else _on_host
        outputs, command = run(transport, profile, bundle, manifest, folder)
    found = agreement(outputs, read_samples(bundle), manifest)
    return Deployed(profile.name, folder, command, found)


def verify_here(bundle: Path) -> Agreement:
    """Check a bundle's hashes and outputs on this machine."""
    manifest = read_bundle(bundle)
    samples = read_samples(bundle)
    outputs = run_here(bundle / manifest.model, manifest.runtime, samples.inputs)
    return agreement(outputs, samples, manifest)


def _push_all(transport: Transport, bundle: Path, manifest: Manifest) -> str:
    """Push every file once, by content; link them side by side under the model's hash."""
    folder = f"{transport.folder}/bundle-{manifest.files[manifest.model][:16]}"
    commands = [f"mkdir -p {shlex.quote(folder)}"]
    for name in sorted({*manifest.files, "manifest.json"}):
        there = transport.push(bundle / name, name)
        commands.append(f"cp {shlex.quote(there)} {shlex.quote(f'{folder}/{name}')}")
    said = transport.shell(" && ".join(commands), limit_s=RUN_S)
    if said.status:
        raise ExportError(f"{transport.name}: {folder} could not be made: {said.last_line}")
    return folder


def _on_host(
    transport: Transport, profile: DeviceProfile, bundle: Path, manifest: Manifest, folder: str
) -> tuple[np.ndarray, str]:
    remote = profile.remote
    python = remote.python if remote else sys.executable
    words = [python, f"{folder}/run.py"]
    said = transport.run(words, limit_s=RUN_S)
    try:
        outputs = np.array(msgspec.json.decode(said.out)["outputs"], np.float32)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        raise ExportError(
            f"{transport.name}: run.py ended with status {said.status}: {said.last_line}"
        ) from None
    return outputs, shlex.join(transport.connection.user_command(shlex.join(words)))


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
        for number, one in enumerate(inputs):
            raw = Path(scratch) / f"{number}.raw"
            raw.write_bytes(one.astype(np.float32).tobytes())
            command = [
                "env", f"LD_LIBRARY_PATH={libraries}", program,
                f"--graph={folder}/{manifest.model}", f"--input_file={transport.push(raw)}",
                f"--output_filepath={output}",
            ]  # fmt: skip
            said = transport.run(command, limit_s=RUN_S)
            if said.status or said.out.strip():
                raise ExportError(
                    f"{transport.name}: the runner ended with status {said.status}: "
                    f"{said.last_line}"
                )
            transport.pull(output, raw)
            outputs.append(np.frombuffer(raw.read_bytes(), np.float32))
    return np.stack(outputs), shlex.join(transport.connection.user_command(shlex.join(command)))
