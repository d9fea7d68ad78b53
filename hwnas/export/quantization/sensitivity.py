"""Which layers an int8 file loses its accuracy in, and which of them to leave in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.quantization.ptq import layers, quantize
from hwnas.export.recipe import Quantization
from hwnas.export.verification.int8_agreement import compared
from hwnas.export.verification.verify import file_outputs, torch_outputs

Array = np.ndarray[Any, Any]

CALIBRATING, JUDGING = 32, 64
"""Images that a layer's sensitivity is measured with: enough to rank layers."""


class Sensitivity(NamedTuple):
    layer: str
    gain_db: float
    """How much less noise the logits have with this layer in float32 and all others in int8."""


class Model(NamedTuple):
    """A float32 network, and the images that its int8 file is made with."""

    module: nn.Module
    input_shape: tuple[int, int, int]
    format: Format
    calibration: Array
    how: Quantization


def sensitivities(model: Model, images: Array) -> list[Sensitivity]:
    """Return all layers with weights, the most sensitive first, judged on ``images``."""
    shown, calibration = images[:JUDGING], model.calibration[:CALIBRATING]
    expected = torch_outputs(model.module, shown)
    names = layers(trace(model.module, model.input_shape))
    with _float_file(model) as source:

        def noise(kept: tuple[str, ...]) -> float:
            target = source.with_name(f"int8.{model.format}")
            quantize(source, target, model.format, calibration, model.how, kept)
            got = file_outputs(target, model.format, shown)
            return float(np.square(got - expected).mean())

        most = noise(())
        found = [
            Sensitivity(name, float(10 * np.log10(most / max(noise((name,)), 1e-30))))
            for name in names
        ]
    return sorted(found, key=lambda one: -one.gain_db)


def layers_to_keep(model: Model, images: Array, labels: Array, max_drop: float) -> tuple[str, ...]:
    """Return the most sensitive layers, as few (1, 2, 4, ...) as keep the accuracy's loss.

    The loss is judged on ``images`` and ``labels``; all layers where nothing less is enough.
    """
    ranked = [one.layer for one in sensitivities(model, images)]
    count = 1
    while count < len(ranked):
        kept = tuple(ranked[:count])
        if drop(model, images, labels, kept) <= max_drop:
            return kept
        count *= 2
    return tuple(ranked)


def drop(model: Model, images: Array, labels: Array, kept: tuple[str, ...] = ()) -> float:
    """Return the accuracy on ``images`` that the int8 file loses against PyTorch."""
    with _float_file(model) as source:
        target = source.with_name(f"int8.{model.format}")
        quantize(source, target, model.format, model.calibration, model.how, kept)
        found = compared(target, model.format, model.module, images, labels)
    return found.accuracy_torch - found.accuracy_artifact


@contextmanager
def _float_file(model: Model) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / f"float.{model.format}"
        compile_model(model.module, model.input_shape, model.format, path)
        yield path
