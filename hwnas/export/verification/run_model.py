"""Runs a model file in its runtime, image by image. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hwnas.architecture.runtimes import COMPILED
from hwnas.devices.worker.model import Model
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError
from hwnas.export.recipe import format_of
from hwnas.export.verification.metrics import Array


def file_outputs(path: Path, images: Array, *, threads: int = 1) -> Array:
    """Return the outputs of a file for ``images`` ``[N, C, H, W]``; those of 4 axes in NCHW."""
    if not len(images):
        raise ValueError("no images to run")
    model = open_file(path, threads)
    joined = np.concatenate([run_image(path, model, image) for image in images])
    return COMPILED[format_of(path)].to_nchw(joined) if joined.ndim == 4 else joined


def outputs_at_once(path: Path, images: Array) -> Array:
    """Return the outputs of a file with a dynamic batch for all ``images`` in one call."""
    runtime = COMPILED[format_of(path)]
    with _runtime_errors(path):
        model = open_model(str(path), runtime.name, batch=len(images))
        model.set_input(runtime.from_nchw(images))
        model.run()
        return model.output()


def open_file(path: Path, threads: int = 1) -> Model:
    """Open a file in its runtime. Raises `ExportError` if the runtime refuses it."""
    with _runtime_errors(path):
        return open_model(str(path), COMPILED[format_of(path)].name, threads)


def run_image(path: Path, model: Model, image: Array) -> Array:
    """Return the output of an opened file for an image ``[C, H, W]``, with a batch axis of 1."""
    runtime = COMPILED[format_of(path)]
    with _runtime_errors(path):
        expected, shape = tuple(model.input_shape), runtime.batch_shape(image.shape)
        if expected != shape:
            raise ValueError(f"its input is {expected}, the images have shape {shape}")
        model.set_input(runtime.from_nchw(image[None]))
        model.run()
        return model.output()


@contextmanager
def _runtime_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = getattr(error, "why", error)
        raise ExportError(f"{runtime_title(path)} cannot run it: {reason}") from error


def runtime_title(path: Path) -> str:
    """Return file and runtime as error messages begin, e.g. ``net.onnx: onnxruntime``."""
    return f"{path}: {COMPILED[format_of(path)].name}"
