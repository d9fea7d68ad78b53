"""Runs a compiled file in its real runtime and compares it with the PyTorch module.

Nothing is reported of a file before this: every image goes through both.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Format, Parity
from hwnas.errors import ExportError
from hwnas.export.graph.trace import evaluating
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.bisect import located
from hwnas.export.verification.metrics import Array, check_logits, relative_error
from hwnas.export.verification.run_model import file_outputs, runtime_name

BATCH = 256


def verify(
    path: Path, format: Format, module: nn.Module, images: Array, labels: Array, *, threads: int = 1
) -> Parity:
    """Compare the file's logits with the module's on normalised ``images`` ``[N, C, H, W]``.

    Raises `ExportError` if an output is not finite, the relative error is above the recipe's
    limit, or the best class of any image differs and PyTorch's two best are not a tie.
    """
    got = file_outputs(path, format, images, threads=threads)
    return _judged(path, format, module, images, labels, got)


def compare(
    path: Path, format: Format, module: nn.Module, images: Array, labels: Array | None
) -> Parity:
    """Do the same with a file of unknown origin, which runs in a process of its own.

    Without ``labels`` PyTorch's own classes are taken for them. An `ExportError` for a difference
    names the first layer that differs.
    """
    from hwnas.export.verification.sandbox import foreign_outputs

    got = foreign_outputs(path, format, images)
    known = torch_outputs(module, images).argmax(axis=1) if labels is None else labels
    with located(path, format, module, images):
        return _judged(path, format, module, images, known, got)


def _judged(
    path: Path, format: Format, module: nn.Module, images: Array, labels: Array, got: Array
) -> Parity:
    limit = find_recipe(format).max_relative_error
    expected = torch_outputs(module, images)
    check_logits(path, got, expected)
    assert limit is not None, "an fp32 recipe without its limit"
    error = _checked(got, expected, limit, runtime_name(path, format))
    return Parity(
        images=len(images),
        max_relative_error=error,
        accuracy_torch=float((expected.argmax(axis=1) == labels).mean()),
        accuracy_artifact=float((got.argmax(axis=1) == labels).mean()),
        label_agreement=float((got.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )


def torch_outputs(module: nn.Module, images: Array) -> Array:
    """Return what the module gives for ``images`` ``[N, C, H, W]`` in evaluation mode.

    Raises `ExportError` with the first line of what the module raises.
    """
    weight = next(module.parameters(), torch.zeros(()))
    batches = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
    with evaluating(module), torch.no_grad():
        outputs = [_given(module, batch.to(weight.device, weight.dtype)) for batch in batches]
    return np.concatenate(outputs)


def _given(module: nn.Module, batch: torch.Tensor) -> Array:
    name, shape = type(module).__name__, list(batch.shape)
    try:
        given = module(batch)
    except Exception as error:  # a user's code may raise anything
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"{name} cannot compute images {shape}: {first}") from error
    if not isinstance(given, torch.Tensor) or given.shape[:1] != batch.shape[:1]:
        found = list(given.shape) if isinstance(given, torch.Tensor) else type(given).__name__
        raise ExportError(f"{name} gives {found} for images {shape}; expected [N, classes]")
    return given.cpu().numpy()


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
