"""Runs a model file in its runtime, image by image. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.architecture.runtimes import COMPILED
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError
from hwnas.export.recipe import format_of
from hwnas.export.verification.metrics import Array


def file_outputs(path: Path, images: Array, *, threads: int = 1) -> Array:
    """Return the outputs of a file for ``images`` ``[N, C, H, W]``; those of 4 axes in NCHW."""
    if not len(images):
        raise ValueError("no images to run")
    runtime = COMPILED[format_of(path)]
    outputs: list[Array] = []
    try:
        model = open_model(str(path), runtime.name, threads)
        expected, shape = tuple(model.input_shape), runtime.batch_shape(images.shape[1:])
        if expected != shape:
            raise ValueError(f"its input is {expected}, the images have shape {shape}")
        for image in images:
            model.set_input(runtime.from_nchw(image[None]))
            model.run()
            outputs.append(model.output())
    except (RuntimeError, ValueError) as error:
        reason = getattr(error, "why", error)
        raise ExportError(f"{runtime_title(path)} cannot run it: {reason}") from error
    joined = np.concatenate(outputs)
    return runtime.to_nchw(joined) if joined.ndim == 4 else joined


def runtime_title(path: Path) -> str:
    """Return file and runtime as error messages begin, e.g. ``net.onnx: onnxruntime``."""
    return f"{path}: {COMPILED[format_of(path)].name}"
