"""Verifies a compiled file: runs it in its runtime and compares it with the PyTorch module.

Nothing is reported about a file before this comparison, which covers every input and every output.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.artifact import OutputParity, Parity, Precision
from hwnas.data.images import images_at_once
from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface, module_interface
from hwnas.export.recipe import Recipe, find_recipe, format_of
from hwnas.export.verification.bisect import check_hidden_values, locate_difference
from hwnas.export.verification.checks import check_classes, check_output, paired
from hwnas.export.verification.decisions import as_decided
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import (
    Array,
    is_logits,
    parity,
    relative_error,
    sqnr_db,
)
from hwnas.export.verification.module_outputs import module_outputs, outputs_together
from hwnas.export.verification.rounding import check_limits, rounded_parity
from hwnas.export.verification.run_model import outputs_at_once, run_file, runtime_title
from hwnas.export.verification.ties import settle_ties


def verify(
    path: Path,
    module: nn.Module,
    verification: Verification,
    interface: Interface | None = None,
    *,
    threads: int = 1,
    precision: Precision = "fp32",
) -> Parity:
    """Compare the outputs of a file that hwnas has just written with those of ``module``.

    Raises `ExportError` if a value is not finite, if the relative error of an output is above the
    recipe's limit, or if the predicted class of an image differs where PyTorch's two best are no
    tie; for weights of 8 bits `TooMuchLoss`.
    """
    interface = interface or interface_of(module, verification)
    expected = module_outputs(module, interface, verification.inputs)
    outputs = run_file(path, verification.inputs, interface.input_names, threads=threads)
    result = compare(path, module, interface, outputs, expected, verification, precision)
    if all((values == values[:1]).all() for values in expected.values()):
        check_hidden_values(path, module, interface, verification.inputs, precision)
    return result


def verify_dynamic_batch(
    path: Path,
    module: nn.Module,
    verification: Verification,
    interface: Interface,
    precision: Precision = "fp32",
) -> None:
    """Raise `ExportError` unless the outputs of a file for two inputs at once are those of
    ``module``."""
    pairs = [array[:2] for array in verification.inputs]
    expected = _numbers(outputs_together(module, interface, pairs))
    together = _numbers(outputs_at_once(path, pairs, interface.input_names))
    recipe = find_recipe(format_of(path), precision)
    for name, values in expected.items():
        if together[name].shape != values.shape or not _agrees(together[name], values, recipe):
            raise ExportError(
                f"{runtime_title(path)} differs from PyTorch for two inputs at once; the batch of "
                "this network cannot be dynamic"
            )


def _agrees(outputs: Array, expected: Array, recipe: Recipe) -> bool:
    if recipe.quantization is None:
        return relative_error(outputs, expected) <= (recipe.max_relative_error or 0.0)
    return sqnr_db(outputs, expected) >= recipe.quantization.min_sqnr_db  # False for NaN


def verify_outputs(
    path: Path,
    module: nn.Module,
    verification: Verification,
    interface: Interface,
    outputs: Mapping[str, Array],
    precision: Precision = "fp32",
) -> Parity:
    """Compare ``outputs`` of a file of floats of unknown origin with those of ``module``.

    An `ExportError` for a difference names the first layer that differs.
    """
    with locate_difference(path, module, interface, verification.inputs, precision):
        expected = module_outputs(module, interface, verification.inputs)
        return compare(path, module, interface, outputs, expected, verification, precision)


def interface_of(module: nn.Module, verification: Verification) -> Interface:
    """Return the interface of ``module`` for the inputs of a verification."""
    shapes = [
        f"{'x'.join(map(str, array.shape[1:]))}:{array.dtype}"
        if array.dtype.kind != "f"
        else array.shape[1:]
        for array in verification.inputs
    ]
    return module_interface(module, shapes)


def compare(
    path: Path,
    module: nn.Module,
    interface: Interface,
    outputs: Mapping[str, Array],
    expected: Mapping[str, Array],
    verification: Verification,
    precision: Precision,
) -> Parity:
    """Compare ``outputs`` of the file with those that are ``expected``, as `verify`."""
    recipe, inputs = find_recipe(format_of(path), precision), verification.inputs
    if recipe.quantization is not None:
        result = rounded_parity(path, outputs, expected, verification.labels)
        check_limits(path, result, recipe.quantization, precision)
        return result
    limit = recipe.max_relative_error
    assert limit is not None, "a recipe of floats states its limit"
    outputs = paired(path, outputs, expected)
    outputs = settle_ties(module, interface, inputs, outputs, expected, limit)
    expected = as_decided(path, module, interface, inputs, outputs, expected, limit)
    outputs, expected = _numbers(outputs), _numbers(expected)
    title = runtime_title(path)
    several = len(expected) > 1
    for name, values in expected.items():
        check_output(outputs[name], values, limit, title, name if several else "")
    results = tuple(
        OutputParity(name, values.shape[1:], relative_error(outputs[name], values))
        for name, values in expected.items()
    )
    if is_logits(expected):
        logits, expected_logits = (next(iter(each.values()))[:, 0] for each in (outputs, expected))
        check_classes(logits, expected_logits, title)
        return msgspec.structs.replace(
            parity(logits, expected_logits, verification.labels), outputs=results
        )
    return Parity(
        images=len(verification.images),
        max_relative_error=max(result.max_relative_error for result in results),
        outputs=results,
    )


def _numbers(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """Return integers and truth values as floats that hold them exactly."""
    return {
        name: values if values.dtype.kind == "f" else values.astype(np.float64)
        for name, values in outputs.items()
    }


def torch_outputs(module: nn.Module, images: Array) -> Array:
    """Return the logits of ``module`` for ``images`` ``[N, C, H, W]`` in evaluation mode.

    They are computed on the CPU; the module stays on its device, and the images are not changed. A
    module that computes something else for several images at once gets them one by one. Raises
    `ExportError` with the first line of whatever the module raises, and for several outputs.
    """
    interface = module_interface(module, images.shape[1:])
    at_once = images_at_once(math.prod(images.shape[2:]))
    batches = np.split(images, range(at_once, len(images), at_once))
    return np.concatenate([_batch_outputs(module, interface, batch) for batch in batches])


def _batch_outputs(module: nn.Module, interface: Interface, batch: Array) -> Array:
    if len(batch) == 1:
        return _logits(module, interface, batch)
    with suppress(ExportError):
        together = _logits(module, interface, batch)
        first, last = _logits(module, interface, batch[:1]), _logits(module, interface, batch[-1:])
        if _close(together[:1], first) and _close(together[-1:], last):
            return together
    images = [batch[place : place + 1] for place in range(len(batch))]
    return np.concatenate([_logits(module, interface, image) for image in images])


def _close(outputs: Array, expected: Array) -> bool:
    if outputs.shape != expected.shape:
        return False
    largest = float(np.abs(expected).max(initial=0.0))
    return bool(np.abs(outputs - expected).max(initial=0.0) <= 1e-4 * largest)  # False for NaN


def _logits(module: nn.Module, interface: Interface, batch: Array) -> Array:
    outputs = outputs_together(module, interface, [batch])
    first = next(iter(outputs.values()))
    if len(outputs) > 1 or first.shape[:1] != batch.shape[:1]:
        described = f"{len(outputs)} outputs" if len(outputs) > 1 else str(list(first.shape))
        raise ExportError(
            f"{type(module).__name__} gives {described} for images {list(batch.shape)}; expected "
            "[N, classes]"
        )
    return first
