"""Runs a model file in its runtime, image by image. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.devices.worker.model import Model
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError
from hwnas.export.recipe import find_recipe

Array = np.ndarray[Any, Any]


def file_outputs(path: Path, format: Format, images: Array, *, threads: int = 1) -> Array:
    """Return what the file gives for ``images`` ``[N, C, H, W]``, one by one, in NCHW order."""
    if not len(images):
        raise ValueError("no images to run")
    try:
        model = open_model(str(path), find_recipe(format).runtime, threads)
        _check_input(path, model, format, images)
        outputs = np.concatenate([_output(model, format, image) for image in images])
    except (RuntimeError, ValueError) as error:
        why = getattr(error, "why", error)
        raise ExportError(f"{runtime_name(path, format)} cannot run it: {why}") from error
    return COMPILED[format].to_nchw(outputs) if outputs.ndim == 4 else outputs


def _check_input(path: Path, model: Model, format: Format, images: Array) -> None:
    shape = COMPILED[format].batch_shape(images.shape[1:])
    if tuple(model.input_shape) != shape:
        raise ValueError(f"its input is {tuple(model.input_shape)}, the images make {shape}")


def _output(model: Model, format: Format, image: Array) -> Array:
    model.set_input(COMPILED[format].from_nchw(image[None]))
    model.run()
    return model.output()


def runtime_name(path: Path, format: Format) -> str:
    return f"{path}: {find_recipe(format).runtime}"
