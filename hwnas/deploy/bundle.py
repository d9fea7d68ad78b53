"""A bundle: a folder with a model and everything needed to run and to check it.

It contains ``model.onnx`` or ``model.tflite``, ``labels.txt``, ``preprocess.json``, ``run.py`` with
``image_pixels.py``,
``samples.npz`` (images as stored, their labels, and the outputs on the machine that wrote the
bundle), ``README.md``, and ``manifest.json`` with the SHA-256 of each file, the accuracy and the
latency.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.runtimes import COMPILED, RuntimeName
from hwnas.data.datasets import Dataset
from hwnas.data.images import normalise_pixels
from hwnas.devices.runner import file_sha256
from hwnas.errors import ExportError, InvalidFile, UsageError
from hwnas.export.recipe import format_of
from hwnas.export.verification.metrics import accuracy
from hwnas.export.verification.run_model import file_outputs
from hwnas.files import decode, read_json, write_atomic, write_json
from hwnas.shipped import shipped

SAMPLE_IMAGES = 32
"""Number of test images in a bundle."""

MAX_RELATIVE_ERROR = {"fp32": 1e-3, "int8": 0.05}
"""Largest difference of outputs between two machines, relative to the largest output. Runtimes
choose other kernels on other processors; a wrong file or input differs by orders of magnitude."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a bundle, with the accuracy and latency that it promises."""

    model: str
    runtime: RuntimeName
    target: str
    input_shape: tuple[int, int, int]
    """Channels, height, width."""
    files: dict[str, str]
    """SHA-256 of every file but the manifest."""
    accuracy: float
    """Accuracy on the samples, on the machine that wrote the bundle."""
    precision: str = "fp32"
    budget_ms: float | None = None
    median_ms: float | None = None
    """Latency that the run measured on the target; None if it was not measured."""
    schema: int = 1


class BundlePreprocessing(msgspec.Struct, frozen=True):
    """How pixels become inputs: ``(pixel / scale - mean) / std`` for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    scale: float


class Samples(msgspec.Struct, frozen=True):
    """Preprocessed inputs ``[N, C, H, W]``, labels ``[N]``, expected outputs ``[N, classes]``."""

    inputs: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray


class Agreement(msgspec.Struct, frozen=True):
    """How the outputs on another machine compare with those in the bundle."""

    images: int
    max_relative_error: float
    accuracy: float
    promised_accuracy: float


def write_bundle(
    folder: Path,
    model: Path,
    data: Dataset,
    target: str,
    *,
    budget_ms: float | None = None,
    median_ms: float | None = None,
    precision: str = "fp32",
    pixels: bool = False,
) -> Manifest:
    """Write the bundle of a compiled model, with the first test images of its data set.

    With ``pixels`` the model takes pixels from 0 to 255, else normalised images.
    """
    runtime = COMPILED[format_of(model)]
    mean, std, scale = (0.0,), (1.0,), 1.0
    if not pixels:
        mean, std, scale = data.mean, data.std, 255.0
    images = data.test.images[:SAMPLE_IMAGES]
    labels = data.test.labels[:SAMPLE_IMAGES]
    outputs = file_outputs(model, normalise_pixels(images, mean, std, scale))
    samples = BytesIO()
    np.savez_compressed(samples, images=images, labels=labels, outputs=outputs)
    name = f"model{runtime.suffix}"
    preprocessing = {
        "shape": data.input_shape,
        "mean": mean,
        "std": std,
        "scale": scale,
        "layout": runtime.layout,
        "runtime": runtime.name,
    }
    kits = shipped("export") / "kits"
    contents: dict[str, bytes] = {
        name: model.read_bytes(),
        "labels.txt": ("\n".join(data.classes) + "\n").encode(),
        "preprocess.json": msgspec.json.encode(preprocessing),
        "run.py": (kits / "run.py").read_bytes(),
        "image_pixels.py": (kits / "image_pixels.py").read_bytes(),
        "samples.npz": samples.getvalue(),
        "README.md": _readme(name, runtime.package, target).encode(),
    }
    for file, content in contents.items():
        write_atomic(folder / file, content)
    manifest = Manifest(
        model=name,
        runtime=runtime.name,
        target=target,
        input_shape=data.input_shape,
        files={file: file_sha256(folder / file) for file in contents},
        accuracy=accuracy(outputs, labels),
        precision=precision,
        budget_ms=budget_ms,
        median_ms=median_ms,
    )
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_bundle(folder: Path) -> Manifest:
    """Read a bundle and check every hash.

    Raises `UsageError` if there is no bundle, `ExportError` for a file that has changed.
    """
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
    except OSError:
        raise UsageError(
            f"{folder}: not a bundle (no manifest.json); `hwnas deploy` writes one"
        ) from None
    manifest = decode(content, Manifest, str(path))
    if manifest.model not in manifest.files:
        raise InvalidFile(str(path), f"{manifest.model} is not among the files")
    for name, digest in manifest.files.items():
        if Path(name).name != name:
            raise InvalidFile(str(path), f"{name!r} is not the name of a file in the bundle")
        if not (folder / name).is_file():
            raise ExportError(f"{folder / name}: missing from the bundle")
        if file_sha256(folder / name) != digest:
            raise ExportError(f"{folder / name}: has changed since it was bundled (SHA-256)")
    return manifest


def read_preprocessing(folder: Path) -> BundlePreprocessing:
    """Read the ``preprocess.json`` of a bundle. Raises `InvalidFile`."""
    return read_json(folder / "preprocess.json", BundlePreprocessing)


def read_samples(folder: Path) -> Samples:
    """Return the samples of a bundle, preprocessed as its ``preprocess.json`` states."""
    config = read_preprocessing(folder)
    with np.load(folder / "samples.npz", allow_pickle=False) as file:
        images, labels, outputs = (file[name] for name in ("images", "labels", "outputs"))
    return Samples(normalise_pixels(images, config.mean, config.std, config.scale), labels, outputs)


def compare_outputs(outputs: np.ndarray, samples: Samples, manifest: Manifest) -> Agreement:
    """Compare outputs with the bundle's. Raises `ExportError` above `MAX_RELATIVE_ERROR`."""
    limit = MAX_RELATIVE_ERROR.get(manifest.precision, MAX_RELATIVE_ERROR["int8"])
    if outputs.shape != samples.outputs.shape:
        raise ExportError(
            f"outputs of shape {outputs.shape}, expected {samples.outputs.shape} as in the bundle"
        )
    scale = float(np.abs(samples.outputs).max()) or 1.0
    error = float(np.abs(outputs - samples.outputs).max()) / scale
    agreement = Agreement(
        images=len(outputs),
        max_relative_error=error,
        accuracy=accuracy(outputs, samples.labels),
        promised_accuracy=manifest.accuracy,
    )
    if not error <= limit:
        raise ExportError(
            f"outputs differ from the bundle's by {error:.2g} of the largest output, more than "
            f"{limit:g}; accuracy {agreement.accuracy:.1%}, promised {manifest.accuracy:.1%}"
        )
    return agreement


def _readme(name: str, package: str, target: str) -> str:
    return (
        f"# {name}, compiled for {target}\n\n"
        f"    pip install numpy {package}\n"
        "    python run.py                 # outputs and accuracy on the samples of this folder\n"
        "    python run.py IMAGE ...       # labels and outputs of image files (needs Pillow)\n"
        "    hwnas verify .                # check hashes, outputs and latency\n\n"
        "`preprocess.json` describes how pixels become inputs, `labels.txt` names the classes, and "
        "`manifest.json` states the accuracy and the latency.\n"
    )
