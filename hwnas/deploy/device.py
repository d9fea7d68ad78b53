"""Copies a bundle to a device and runs it there on the bundle's own images."""

from __future__ import annotations

import shlex
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

from hwnas.deploy.bundle import Manifest, read_bundle
from hwnas.deploy.interface import Array, FileInterface, read_interface, run_stored
from hwnas.deploy.samples import Agreement, Samples, compare_outputs, read_samples
from hwnas.devices.limits import check_precision, check_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runners.programs import push_kit
from hwnas.devices.transports.transport import Transport, open_transport
from hwnas.errors import ExportError, UsageError
from hwnas.export.verification.run_model import verifying

TIMEOUT_S = 600.0


class Deployment(msgspec.Struct, frozen=True):
    """A bundle on a device, and the agreement of its outputs there with the stored ones."""

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
    agreement = compare_outputs(
        outputs, read_samples(bundle), read_interface(bundle), manifest.precision
    )
    return Deployment(profile.name, folder, command, agreement)


def verify_outputs(bundle: Path) -> Agreement:
    """Check the hashes and outputs of a bundle on this machine."""
    manifest, samples = read_bundle(bundle), read_samples(bundle)
    with verifying():
        outputs = tuple(run_stored(bundle / manifest.model, samples.inputs).values())
    return compare_outputs(outputs, samples, read_interface(bundle), manifest.precision)


def _push_all(transport: Transport, bundle: Path, manifest: Manifest) -> str:
    """Copy every file, each content only once, to a folder named after the model's hash."""
    names = sorted({*manifest.files, "manifest.json"})
    return transport.gather(
        f"{transport.folder}/bundle-{manifest.files[manifest.model][:16]}",
        {name: transport.push(bundle / name, name) for name in names},
    )


def _on_host(
    transport: Transport, profile: DeviceProfile, bundle: Path, manifest: Manifest, folder: str
) -> tuple[tuple[Array, ...], str]:
    remote = profile.remote
    python = remote.python if remote else sys.executable
    command, written = [python, f"{folder}/run.py"], f"{folder}/outputs.npz"
    result = transport.run([*command, "--outputs", written], limit_s=TIMEOUT_S)
    if result.status:
        raise ExportError(
            f"{transport.name}: run.py ended with status {result.status}: {result.last_line}"
        )
    with tempfile.TemporaryDirectory() as scratch:
        outputs = Path(scratch) / "outputs.npz"
        transport.pull(written, outputs)
        with np.load(outputs, allow_pickle=False) as file:
            arrays = tuple(file[f"output_{place}"] for place in range(len(file.files)))
    return arrays, shlex.join(transport.connection.user_command(shlex.join(command)))


def _on_phone(
    transport: Transport, profile: DeviceProfile, bundle: Path, manifest: Manifest, folder: str
) -> tuple[tuple[Array, ...], str]:
    assert profile.remote is not None
    interface, samples = read_interface(bundle), read_samples(bundle)
    program, libraries = push_kit(transport, profile.remote, transport.probe(), manifest.runtime)
    output = f"{folder}/output.raw"
    runs: list[list[Array]] = []
    command: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(len(samples.outputs[0])):
            files = _raw_inputs(samples, interface, number, Path(scratch))
            command = [
                *("env", f"LD_LIBRARY_PATH={libraries}", program),
                f"--graph={folder}/{manifest.model}",
                *(f"--input_file={transport.push(file)}" for file in files),
                f"--output_filepath={output}",
            ]
            result = transport.run(command, limit_s=TIMEOUT_S)
            if result.status or result.out.strip():
                raise ExportError(
                    f"{transport.name}: the runner ended with status {result.status}: "
                    f"{result.last_line}"
                )
            runs.append(_raw_outputs(transport, interface, output, Path(scratch)))
    outputs = tuple(np.stack(values) for values in zip(*runs, strict=True))
    return outputs, shlex.join(transport.connection.user_command(shlex.join(command)))


def _raw_inputs(
    samples: Samples, interface: FileInterface, number: int, folder: Path
) -> list[Path]:
    """Write the inputs of a sample as the native runner reads them, one file each."""
    files: list[Path] = []
    for place, tensor in enumerate(interface.inputs):
        file = folder / f"{number}-{place}.raw"
        file.write_bytes(samples.inputs[place][number].astype(tensor.dtype).tobytes())
        files.append(file)
    return files


def _raw_outputs(
    transport: Transport, interface: FileInterface, output: str, folder: Path
) -> list[Array]:
    """Return the outputs that the native runner wrote: to ``output``, ``output.1`` and so on."""
    arrays: list[Array] = []
    for place, tensor in enumerate(interface.outputs):
        raw = folder / "output.raw"
        transport.pull(f"{output}.{place}" if place else output, raw)
        values = np.frombuffer(raw.read_bytes(), tensor.dtype)
        shape = tuple(map(int, tensor.shape))
        if values.size != int(np.prod(shape)):
            raise ExportError(
                f"{transport.name}: the runner wrote {values.size} values of {tensor.name}, "
                f"expected {list(shape)}"
            )
        arrays.append(values.reshape(shape))
    return arrays
