"""The outputs of a file beside PyTorch's, and the limits of files of floats."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.verification.metrics import Array, hidden_error, relative_error

HIDDEN_ERROR = 0.05
"""Largest relative error of an image or channel whose values are a thousand times smaller than the
largest: rounding may cancel there, a wrong file differs by more."""


def paired(
    path: Path, outputs: Mapping[str, Array], expected: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the file's outputs under PyTorch's names, by name if it has them, else in order."""
    if len(outputs) != len(expected):
        raise ExportError(
            f"{path}: gives {len(outputs)} outputs ({', '.join(outputs)}), PyTorch {len(expected)} "
            f"({', '.join(expected)})"
        )
    if set(outputs) != set(expected):
        outputs = dict(zip(expected, outputs.values(), strict=True))
    for name, values in expected.items():
        if outputs[name].shape != values.shape:
            what = f"the output {name} has" if len(expected) > 1 else "gives outputs of"
            raise ExportError(
                f"{path}: {what} shape {list(outputs[name].shape[1:])}, PyTorch "
                f"{list(values.shape[1:])}"
            )
    return dict(outputs)


def check_output(
    outputs: Array, expected: Array, limit: float, title: str, output: str = ""
) -> None:
    """Raise `ExportError` for an output ``[N, 1, ...]`` that differs from the expected one.

    ``limit`` is that of the relative error; ``title`` is the file and runtime in messages,
    ``output`` the name of the output, if there are several.
    """
    place = f" in the output {output}" if output else ""
    check_finite(expected, "PyTorch", place)
    check_finite(outputs, title, place)
    error = relative_error(outputs, expected)
    if not error <= limit:
        numbers = np.abs(outputs - expected).reshape(len(outputs), -1)
        raise ExportError(
            f"{title} differs from PyTorch by {error:.3g} of the largest value on image "
            f"{int(numbers.max(axis=1).argmax())}{place}; the limit is {limit:g}"
        )
    hidden = hidden_error(outputs, expected)
    hidden_limit = max(HIDDEN_ERROR, limit)
    if hidden > hidden_limit:
        raise ExportError(
            f"{title} differs from PyTorch by {hidden:.3g} of the largest value of an image or "
            f"channel whose values are small{place}; the limit is {hidden_limit:g}"
        )


def check_finite(values: Array, who: str, place: str = "") -> None:
    """Raise `ExportError` if values ``[N, ...]`` that ``who`` gives are not all finite."""
    finite = np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if not finite.all():
        raise ExportError(
            f"{who} gives a value that is not finite for image {finite.argmin()}{place}"
            + ("; there is nothing to compare" if who == "PyTorch" else "")
        )


def check_classes(outputs: Array, expected: Array, title: str) -> None:
    """Raise `ExportError` for logits ``[N, classes]`` that surely give another class."""
    difference = np.abs(outputs - expected).max()
    for image in np.nonzero(outputs.argmax(axis=1) != expected.argmax(axis=1))[0]:
        second, first = np.sort(expected[image])[-2:]
        if first - second > difference:
            raise ExportError(
                f"{title} predicts class {outputs[image].argmax()} for image {image}, PyTorch "
                f"{expected[image].argmax()} by a margin of {first - second:.3g}; the largest "
                f"difference of any logit is {difference:.3g}"
            )
