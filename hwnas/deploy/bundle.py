"""A bundle: the folder that a model is handed over in, with all it takes to run and to judge it.

``model.onnx`` or ``model.tflite``, ``labels.txt``, ``preprocess.json``, ``run.py``, ``samples.npz``
(images as they are stored, their labels, and the outputs in the runtime on the machine that made
the bundle), ``README.md``, and ``manifest.json`` with the SHA-256 of each file and what was
promised.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.data.datasets import Dataset
from hwnas.devices.runner import file_sha256
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, InvalidFile, UsageError
from hwnas.files import write_atomic, write_json
from hwnas.shipped import shipped

SAMPLES = 32
"""Test images that go along."""

TOLERANCE = {"fp32": 1e-3, "int8": 0.05}
"""Largest difference of outputs between two machines, relative to the largest output. Runtimes
choose other kernels on other processors; a wrong file or input differs by orders of magnitude."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle holds and promises."""

    model: str
    runtime: RuntimeName
    target: str
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    files: dict[str, str]
    """SHA-256 of every other file."""
    accuracy: float
    """Of the samples, on the machine that made the bundle."""
    precision: str = "fp32"
    budget_ms: float | None = None
    median_ms: float | None = None
    """As the run measured it on the target; ``None``: it was not measured."""
    schema: int = 1


class Samples(msgspec.Struct, frozen=True):
    """Inputs ``[N, C, H, W]`` after preprocessing, labels and expected outputs ``[N, K]``."""

    inputs: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray


class Agreement(msgspec.Struct, frozen=True):
    """How outputs elsewhere compare with those in the bundle."""

    images: int
    max_relative_error: float
    accuracy: float
    promised_accuracy: float


def write_bundle(
    folder: Path, model: Path, runtime: RuntimeName, data: Dataset, target: str,
    budget_ms: float | None = None, median_ms: float | None = None, precision: str = "fp32",
    pixels: bool = False,
) -> Manifest:  # fmt: skip
    """Write a bundle of a compiled model and the first test images of its data.

    ``pixels``: the file takes pixels from 0 to 255 as they are.
    """
    mean, std, scale = (0.0,), (1.0,), 1.0
    if not pixels:
        mean, std, scale = data.mean, data.std, 255.0
    images = data.test.images[:SAMPLES]
    labels = data.test.labels[:SAMPLES]
    outputs = run_here(model, runtime, _prepared(images, mean, std, scale))
    samples = BytesIO()
    np.savez_compressed(samples, images=images, labels=labels, outputs=outputs)
    name = f"model{RUNTIMES[runtime].suffix}"
    kits = shipped("export") / "kits"
    contents: dict[str, bytes] = {
        name: model.read_bytes(),
        "labels.txt": ("\n".join(data.classes) + "\n").encode(),
        "preprocess.json": msgspec.json.encode({
            "shape": data.input_shape, "mean": mean, "std": std, "scale": scale,
            "layout": RUNTIMES[runtime].layout, "runtime": runtime,
        }),
        "run.py": (kits / "run.py").read_bytes(),
        "samples.npz": samples.getvalue(),
        "README.md": _readme(name, runtime, target).encode(),
    }  # fmt: skip
    for file, content in contents.items():
        write_atomic(folder / file, content)
    manifest = Manifest(
        model=name,
        runtime=runtime,
        target=target,
        input_shape=data.input_shape,
        files={file: file_sha256(folder / file) for file in contents},
        accuracy=float((outputs.argmax(1) == labels).mean()),
        precision=precision,
        budget_ms=budget_ms,
        median_ms=median_ms,
    )
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_bundle(folder: Path) -> Manifest:
    """Read a bundle and check every hash.

    Raises `UsageError` for no bundle, `ExportError` for a file that is not the one handed over.
    """
    path = folder / "manifest.json"
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError:
        raise UsageError(
            f"{folder}: no bundle (no manifest.json); `hwnas deploy` makes one"
        ) from None
    except msgspec.DecodeError as error:
        raise InvalidFile(str(path), str(error)) from None
    if manifest.model not in manifest.files:
        raise InvalidFile(str(path), f"{manifest.model} is not among the files")
    for name, digest in manifest.files.items():
        if Path(name).name != name:
            raise InvalidFile(str(path), f"{name!r} is not the name of a file in the bundle")
        if not (folder / name).is_file():
            raise ExportError(f"{folder / name}: missing")
        if file_sha256(folder / name) != digest:
            raise ExportError(f"{folder / name}: not the file that was handed over (SHA-256)")
    return manifest


def read_samples(folder: Path) -> Samples:
    """Return a bundle's samples, preprocessed as its ``preprocess.json`` says."""
    said = msgspec.json.decode((folder / "preprocess.json").read_bytes())
    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        images, labels, outputs = (file[name] for name in ("images", "labels", "outputs"))
    return Samples(_prepared(images, said["mean"], said["std"], said["scale"]), labels, outputs)


def _prepared(
    images: np.ndarray, mean: Sequence[float], std: Sequence[float], scale: float
) -> np.ndarray:
    shift, width = (np.array(values, np.float32)[:, None, None] for values in (mean, std))
    return ((images.astype(np.float32) / np.float32(scale) - shift) / width).astype(np.float32)


def run_here(model: Path, runtime: RuntimeName, inputs: np.ndarray) -> np.ndarray:
    """Return outputs ``[N, K]`` of inputs ``[N, C, H, W]`` in this machine's runtime."""
    opened = open_model(str(model), runtime)
    outputs: list[np.ndarray] = []
    for one in np.ascontiguousarray(RUNTIMES[runtime].from_nchw(inputs)):
        opened.set_input(one[None])
        opened.run()
        outputs.append(opened.output().reshape(-1))
    return np.stack(outputs).astype(np.float32)


def agreement(outputs: np.ndarray, samples: Samples, manifest: Manifest) -> Agreement:
    """Compare outputs with the bundle's; raises `ExportError` beyond `TOLERANCE`."""
    limit = TOLERANCE.get(manifest.precision, TOLERANCE["int8"])
    if outputs.shape != samples.outputs.shape:
        raise ExportError(
            f"outputs of shape {outputs.shape}, expected {samples.outputs.shape} as in the bundle"
        )
    scale = float(np.abs(samples.outputs).max()) or 1.0
    error = float(np.abs(outputs - samples.outputs).max()) / scale
    found = Agreement(
        images=len(outputs),
        max_relative_error=error,
        accuracy=float((outputs.argmax(1) == samples.labels).mean()),
        promised_accuracy=manifest.accuracy,
    )
    if not error <= limit:
        raise ExportError(
            f"outputs differ by {error:.2g} of the largest one from the bundle's, more than "
            f"{limit:g}; accuracy {found.accuracy:.1%}, promised {manifest.accuracy:.1%}"
        )
    return found


def _readme(name: str, runtime: RuntimeName, target: str) -> str:
    return (
        f"# {name}, made for {target}\n\n"
        f"    pip install numpy {RUNTIMES[runtime].package}\n"
        "    python run.py                 # the samples in this folder: outputs and accuracy\n"
        "    python run.py IMAGE.npy ...   # uint8 images [C, H, W]: labels\n"
        "    hwnas verify .                # hashes, outputs, and the latency on the target\n\n"
        "`preprocess.json` says how pixels become inputs, `labels.txt` what outputs mean, "
        "`manifest.json` what was promised.\n"
    )
