"""Noise on which a file compiled from an ONNX file can be compared with ONNX Runtime.

A network may amplify rounding: where the values before a sigmoid are far from 0 its outputs are
mostly rounding, and a layer may cancel large values. This depends on the sample, so each sample is
run twice, with and without ONNX Runtime's optimisations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import numpy as np

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import TensorSpec
from hwnas.export.onnx_reader.reference import Reference
from hwnas.export.verification.metrics import Array

Kind = tuple[Literal["normal", "uniform"], float]
KINDS: tuple[Kind, ...] = (
    ("normal", 1.0),
    ("uniform", 1.0),
    ("uniform", 255.0),
    ("normal", 3.0),
    ("normal", 10.0),
    ("normal", 0.1),
)
"""Distributions and their scale: standard normal noise, from 0 to 1, pixels, and others."""
OWN_ERROR = 2e-5
"""Largest difference between the two runs of a sample on which files are compared."""
MAX_OWN_ERROR = 1e-4
"""The same where all kinds of noise have larger ones: as much as a file may differ."""

SMALL = 1e-3
"""Share of the largest value of an output below which the values of a sample are not compared."""

Sample = list[Array]
"""One value for each input."""


class Measured(NamedTuple):
    """A sample and the outputs of ONNX Runtime for it."""

    sample: Sample
    own_error: float
    largest: tuple[float, ...]
    """Largest value of each output."""


def comparable_samples(
    reference: Reference, names: Sequence[str], inputs: Sequence[TensorSpec], count: int, below: int
) -> list[Sample]:
    """Return at most ``count`` samples; integers are less than ``below``.

    They are the first of `KINDS` on half of which, or more, ONNX Runtime agrees with itself up to
    `OWN_ERROR`, without the others and without those whose outputs are `SMALL` beside theirs.
    Raises `ExportError` if every sample exceeds `MAX_OWN_ERROR`.
    """
    shapes = [spec.shape[spec.shape[:1] == (1,) :] for spec in inputs]
    pairs = zip(shapes, inputs, strict=True)
    zeros = [np.zeros((1, *shape), spec.dtype) for shape, spec in pairs]
    reference.outputs(zeros, names)  # in a child process: ONNX Runtime may crash
    measured, good = list[Measured](), list[Sample]()
    for kind in KINDS:
        samples = list(_noise(kind, inputs, [(count, *shape) for shape in shapes], below))
        given = (
            [array.reshape(spec.shape) for array, spec in zip(sample, inputs, strict=True)]
            for sample in samples
        )
        runs = zip(samples, reference.own_runs(given, names), strict=True)
        measured += [Measured(sample, *run) for sample, run in runs]
        good = _good(measured, OWN_ERROR)
        if 2 * len(good) >= count:
            break
    good = good or _good(measured, MAX_OWN_ERROR)
    if good:
        return good[:count]
    raise ExportError(
        f"{reference.path}: its outputs on noise are mostly rounding, ONNX Runtime differs from "
        f"itself by {min(each.own_error for each in measured):.2g} of the largest; compare on "
        "images of --data, or at another --input-shape"
    )


def _good(measured: Sequence[Measured], limit: float) -> list[Sample]:
    """Return the samples on which ONNX Runtime agrees with itself, none of them small."""
    close = [each for each in measured if each.own_error <= limit]
    largest = [max(sizes) for sizes in zip(*(each.largest for each in close), strict=True)]
    large = [
        each.sample
        for each in close
        if all(size >= SMALL * most for size, most in zip(each.largest, largest, strict=True))
    ]
    return large or [each.sample for each in close]


def _noise(
    kind: Kind, inputs: Sequence[TensorSpec], shapes: Sequence[tuple[int, ...]], below: int
) -> Iterator[Sample]:
    """Yield samples of one of `KINDS`, always the same; ``shapes`` begin with their number."""
    (distribution, scale), rng = kind, np.random.default_rng(0)
    draw = rng.standard_normal if distribution == "normal" else rng.random
    arrays: list[Array] = []
    for spec, shape in zip(inputs, shapes, strict=True):
        if spec.dtype == "float32":
            arrays.append((draw(shape) * scale).astype(np.float32))
        else:
            high = 256 if spec.dtype == "uint8" else 2 if spec.dtype == "bool" else below
            arrays.append(rng.integers(0, high, shape).astype(spec.dtype))
    for place in range(shapes[0][0]):
        yield [np.asarray(array[place]) for array in arrays]
