"""Verifies a compiled file: runs it in its runtime and compares it with the PyTorch module.

Nothing is reported about a file before this comparison, which covers every image.
"""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Parity
from hwnas.errors import ExportError, first_line
from hwnas.export.graph.modules import evaluating, float32_on_cpu
from hwnas.export.recipe import find_recipe, format_of
from hwnas.export.verification.bisect import locate_difference
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array, check_logits, parity, relative_error
from hwnas.export.verification.run_model import file_outputs, outputs_at_once, runtime_title
from hwnas.training.images.loader import images_at_once


def verify(
    path: Path, module: nn.Module, verification: Verification, *, threads: int = 1
) -> Parity:
    """Compare the logits of a file that hwnas has just written with those of ``module``.

    Raises `ExportError` if an output is not finite, if the relative error is above the recipe's
    limit, or if the predicted class of an image differs where PyTorch's two best are no tie.
    """
    outputs = file_outputs(path, verification.images, threads=threads)
    return _compare(path, module, verification, outputs)


def verify_dynamic_batch(path: Path, module: nn.Module, images: Array) -> None:
    """Raise `ExportError` unless a file gives for two images at once what ``module`` gives."""
    module = float32_on_cpu(module)
    weight = next(module.parameters(), torch.zeros(()))
    with evaluating(module), torch.no_grad():
        expected = _outputs(module, torch.from_numpy(images[:2].copy()), weight)
    together = outputs_at_once(path, images[:2])
    limit = find_recipe(format_of(path)).max_relative_error or 0.0
    if together.shape != expected.shape or not relative_error(together, expected) <= limit:
        raise ExportError(
            f"{runtime_title(path)} differs from PyTorch for two images at once; the batch of this "
            "network cannot be dynamic"
        )


def verify_outputs(
    path: Path, module: nn.Module, verification: Verification, outputs: Array
) -> Parity:
    """Compare ``outputs`` of a float32 file of unknown origin with those of ``module``.

    An `ExportError` for a difference names the first layer that differs.
    """
    with locate_difference(path, module, verification.images):
        return _compare(path, module, verification, outputs)


def _compare(path: Path, module: nn.Module, verification: Verification, outputs: Array) -> Parity:
    limit = find_recipe(format_of(path)).max_relative_error
    assert limit is not None, "a float32 recipe states its limit"
    expected = torch_outputs(module, verification.images)
    check_logits(path, outputs, expected)
    check_outputs(outputs, expected, limit, runtime_title(path))
    return parity(outputs, expected, verification.labels)


def torch_outputs(module: nn.Module, images: Array) -> Array:
    """Return the outputs of ``module`` for ``images`` ``[N, C, H, W]`` in evaluation mode.

    They are computed on the CPU; the module stays where it is, and the images as they are. A module
    that computes something else for several images at once gets them one by one. Raises
    `ExportError` with the first line of whatever the module raises.
    """
    module = float32_on_cpu(module)
    weight = next(module.parameters(), torch.zeros(()))
    at_once = images_at_once(math.prod(images.shape[2:]))
    batches = torch.from_numpy(np.ascontiguousarray(images)).split(at_once)
    with evaluating(module), torch.no_grad():
        outputs = [_batch_outputs(module, batch, weight) for batch in batches]
    return np.concatenate(outputs)


def _batch_outputs(module: nn.Module, batch: torch.Tensor, weight: torch.Tensor) -> Array:
    if len(batch) == 1:
        return _outputs(module, batch, weight)
    with suppress(ExportError):
        together = _outputs(module, batch, weight)
        first = _outputs(module, batch[:1], weight)
        if together.shape[1:] == first.shape[1:] and _close(together[:1], first):
            return together
    return np.concatenate([_outputs(module, image, weight) for image in batch.split(1)])


def _close(outputs: Array, expected: Array) -> bool:
    largest = float(np.abs(expected).max(initial=0.0))
    return bool(np.abs(outputs - expected).max(initial=0.0) <= 1e-4 * largest)  # False for NaN


def _outputs(module: nn.Module, batch: torch.Tensor, weight: torch.Tensor) -> Array:
    """Return the outputs for copies of images in the type of ``weight``."""
    name, shape = type(module).__name__, list(batch.shape)
    try:
        outputs = module(batch.to(weight, copy=True))
    except Exception as error:  # a user's code may raise anything
        message = f"{name} cannot compute images {shape}: {first_line(error)}"
        raise ExportError(message) from error
    if isinstance(outputs, torch.Tensor) and outputs.dim() < 2:  # squeeze() of a batch of one
        outputs = outputs.reshape(len(batch), -1) if outputs.numel() else outputs
    if not isinstance(outputs, torch.Tensor) or outputs.shape[:1] != batch.shape[:1]:
        raise ExportError(
            f"{name} gives {_described(outputs)} for images {shape}; expected [N, classes]"
        )
    return outputs.cpu().numpy()


def _described(outputs: object) -> str:
    if isinstance(outputs, torch.Tensor):
        return str(list(outputs.shape))
    if isinstance(outputs, tuple | list | dict):
        return f"{len(outputs)} outputs ({type(outputs).__name__})"
    return type(outputs).__name__


def check_outputs(outputs: Array, expected: Array, limit: float, name: str) -> None:
    """Raise `ExportError` for logits ``[N, classes]`` that differ from the expected ones.

    ``limit`` is that of the relative error; ``name`` is the file and runtime in messages.
    """
    finite = np.isfinite(outputs).all(axis=1)
    if not finite.all():
        raise ExportError(f"{name} gives a value that is not finite for image {finite.argmin()}")
    difference = np.abs(outputs - expected)
    error = relative_error(outputs, expected)
    if not error <= limit:
        image = int(difference.max(axis=1).argmax())
        raise ExportError(
            f"{name} differs from PyTorch by {error:.3g} of the largest logit on image {image}; "
            f"the limit is {limit:g}"
        )
    for image in np.nonzero(outputs.argmax(axis=1) != expected.argmax(axis=1))[0]:
        second, first = np.sort(expected[image])[-2:]
        if first - second > difference.max():
            raise ExportError(
                f"{name} predicts class {outputs[image].argmax()} for image {image}, PyTorch "
                f"{expected[image].argmax()} by a margin of {first - second:.3g}; the largest "
                f"difference of any logit is {difference.max():.3g}"
            )
