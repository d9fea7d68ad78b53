"""Runs a compiled file in its real runtime and compares it with the PyTorch module.

Nothing is reported of a file before this: every image goes through both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from hwnas.artifact import Format, Parity
from hwnas.devices.worker import Model, open_model
from hwnas.errors import ExportError
from hwnas.export.graph import evaluating
from hwnas.export.recipe import find_recipe

Array = np.ndarray[Any, Any]
BATCH = 256


def verify(
    path: Path, format: Format, module: nn.Module, images: Array, labels: Array, *, threads: int = 1
) -> Parity:
    """Compare the file's logits with the module's on normalised ``images`` ``[N, C, H, W]``.

    Raises `ExportError` if an output is not finite, the relative error is above the recipe's
    limit, or the best class of any image differs and PyTorch's two best are not a tie.
    """
    limit = find_recipe(format).max_relative_error
    got = file_outputs(path, format, images, threads=threads)
    expected = torch_outputs(module, images)
    if expected.ndim != 2 or got.shape != expected.shape:
        raise ExportError(
            f"{path}: gives outputs {list(got.shape)} for PyTorch's {list(expected.shape)}; "
            "both must be logits [N, classes]"
        )
    assert limit is not None, "an fp32 recipe without its limit"
    error = _checked(got, expected, limit, _names(path, format))
    return Parity(
        images=len(images),
        max_relative_error=error,
        accuracy_torch=float((expected.argmax(axis=1) == labels).mean()),
        accuracy_artifact=float((got.argmax(axis=1) == labels).mean()),
    )


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
        raise ExportError(f"{_names(path, format)} cannot run it: {why}") from error
    return outputs.transpose(0, 3, 1, 2) if format == "tflite" and outputs.ndim == 4 else outputs


def torch_outputs(module: nn.Module, images: Array) -> Array:
    """Return what the module gives for ``images`` ``[N, C, H, W]`` in evaluation mode."""
    weight = next(module.parameters(), torch.zeros(()))
    batches = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
    with evaluating(module), torch.no_grad():
        outputs = [module(batch.to(weight.device, weight.dtype)).cpu().numpy() for batch in batches]
    return np.concatenate(outputs)


def relative_error(got: Array, expected: Array) -> float:
    """Return ``max|got - expected| / max|expected|`` over everything."""
    difference = float(np.abs(got - expected).max())
    return difference / float(np.abs(expected).max()) if difference else 0.0


def _checked(got: Array, expected: Array, limit: float, names: str) -> float:
    """Return the relative error of logits ``[N, classes]`` that pass; raise for others."""
    if not np.isfinite(got).all():
        image = int(np.nonzero(~np.isfinite(got).all(axis=1))[0][0])
        raise ExportError(f"{names} gives a value that is not finite for image {image}")
    difference = np.abs(got - expected)
    error = relative_error(got, expected)
    if not error <= limit:
        image = int(difference.max(axis=1).argmax())
        raise ExportError(
            f"{names} differs from PyTorch by {error:.3g} of the largest logit on image {image}; "
            f"the limit is {limit:g}"
        )
    for image in np.nonzero(got.argmax(axis=1) != expected.argmax(axis=1))[0]:
        second, first = np.sort(expected[image])[-2:]
        if first - second > difference.max():
            raise ExportError(
                f"{names} sees class {got[image].argmax()} in image {image} where PyTorch sees "
                f"{expected[image].argmax()}, by a margin of {first - second:.3g}; the largest "
                f"difference of any logit is {difference.max():.3g}"
            )
    return error


def _check_input(path: Path, model: Model, format: Format, images: Array) -> None:
    _, channels, height, width = images.shape
    shape = (1, height, width, channels) if format == "tflite" else (1, channels, height, width)
    if tuple(model.input_shape) != shape:
        raise ValueError(f"its input is {tuple(model.input_shape)}, the images make {shape}")


def _output(model: Model, format: Format, image: Array) -> Array:
    model.set_input((image.transpose(1, 2, 0) if format == "tflite" else image)[None])
    model.run()
    return model.output()


def _names(path: Path, format: Format) -> str:
    return f"{path}: {find_recipe(format).runtime}"
