"""Which layers lose accuracy in int8, and which of them to leave in float32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.quantization.ptq import Int8, quantize, weighted_layers
from hwnas.export.verification.images import Verification
from hwnas.export.verification.int8_agreement import compare_int8
from hwnas.export.verification.metrics import Array
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs

RANKING_CALIBRATION_IMAGES, RANKING_IMAGES = 32, 64
"""Number of images that sensitivities are measured with: enough to rank layers."""


class Sensitivity(NamedTuple):
    """What a layer gains from float32."""

    layer: str
    gain_db: float
    """Decrease of the noise in the logits with this layer in float32 and all others in int8."""


class FloatModel(NamedTuple):
    """A float32 network, and how it is quantised."""

    module: nn.Module
    input_shape: tuple[int, int, int]
    format: Format
    int8: Int8


def sensitivities(model: FloatModel, images: Array) -> list[Sensitivity]:
    """Return all layers with weights, the most sensitive first, measured on ``images``."""
    images = images[:RANKING_IMAGES]
    few = model.int8._replace(calibration=model.int8.calibration[:RANKING_CALIBRATION_IMAGES])
    expected = torch_outputs(model.module, images)
    names = weighted_layers(trace(model.module, model.input_shape))
    with _float_file(model) as source:

        def noise(float_layers: tuple[str, ...]) -> float:
            target = source.with_name(f"int8.{model.format}")
            quantize(source, target, few._replace(float_layers=float_layers))
            return float(np.square(file_outputs(target, images) - expected).mean())

        all_int8 = noise(())
        result = [
            Sensitivity(name, float(10 * np.log10(all_int8 / max(noise((name,)), 1e-30))))
            for name in names
        ]
    return sorted(result, key=lambda sensitivity: -sensitivity.gain_db)


def select_float_layers(
    model: FloatModel, verification: Verification, max_drop: float
) -> tuple[str, ...]:
    """Return the fewest most sensitive layers (1, 2, 4, ...) that must stay in float.

    ``max_drop`` is the largest loss of accuracy on ``verification``. All layers are returned if no
    fewer are enough.
    """
    ranked = [layer for layer, _ in sensitivities(model, verification.images)]
    count = 1
    while count < len(ranked):
        float_layers = tuple(ranked[:count])
        if accuracy_drop(model, verification, float_layers) <= max_drop:
            return float_layers
        count *= 2
    return tuple(ranked)


def accuracy_drop(
    model: FloatModel, verification: Verification, float_layers: tuple[str, ...] = ()
) -> float:
    """Return the accuracy on ``verification`` that the int8 file loses against PyTorch."""
    with _float_file(model) as source:
        target = source.with_name(f"int8.{model.format}")
        quantize(source, target, model.int8._replace(float_layers=float_layers))
        parity = compare_int8(target, model.module, verification)
    return parity.accuracy_torch - parity.accuracy_artifact


@contextmanager
def _float_file(model: FloatModel) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"float.{model.format}"
        compile_model(model.module, model.input_shape, path)
        yield path
