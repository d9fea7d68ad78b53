"""Post-training static quantisation of a float32 file to int8.

The ranges of activations are measured by running the float file on calibration images (Jacob et
al., CVPR 2018, arXiv:1712.05877); weights are quantised per output channel. Both formats get the
same images.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.nodes import Conv, Graph, Linear
from hwnas.export.recipe import Quantization, find_recipe, format_of
from hwnas.export.verification.metrics import Array

CALIBRATION_IMAGES = 256
"""Number of training images on which ranges are measured."""


class Int8(NamedTuple):
    """How a network is quantised."""

    calibration: Array
    """Inputs ``[N, C, H, W]`` from training data, other than those it is verified on."""
    quantization: Quantization | None = None
    """Settings; None: those of the recipe."""
    float_layers: tuple[str, ...] = ()
    """Names of layers (see `weighted_layers`) that stay in float32."""


def quantize(source: Path, target: Path, int8: Int8) -> None:
    """Write the int8 file of the float32 file ``source``.

    Raises `ExportError` if there are no calibration images or a value in them is not finite.
    """
    images = int8.calibration
    if images.ndim != 4 or not len(images):
        raise ExportError(
            f"int8 needs calibration images [N, C, H, W], got {list(images.shape)}: the ranges of "
            "all values are measured on them"
        )
    if not np.isfinite(images).all():
        raise ExportError("a calibration image has a value that is not finite")
    format = format_of(target)
    quantization = int8.quantization or int8_quantization(format)
    if format == "onnx":
        from hwnas.export.onnx.quantize import quantize_onnx

        quantize_onnx(source, target, images, quantization, int8.float_layers)
    else:
        from hwnas.export.tflite.quantize import quantize_tflite

        quantize_tflite(source, target, images, quantization, int8.float_layers)


def int8_quantization(format: Format, calibration: str | None = None) -> Quantization:
    """Return the settings of the format's int8 recipe, with another ``calibration`` if given."""
    quantization = find_recipe(format, "int8").quantization
    if quantization is None:
        raise ExportError(f"the recipe {format}-int8 has no [quantization]")
    if calibration is None:
        return quantization
    known = ("minmax", "percentile", "entropy") if format == "onnx" else ("minmax", "percentile")
    if calibration not in known:
        raise UsageError(
            f"calibration {calibration!r} is not available for {format}; known: {', '.join(known)}"
        )
    return msgspec.structs.replace(quantization, calibration=calibration)


def weighted_layers(graph: Graph) -> tuple[str, ...]:
    """Return the names of all convolutions and linear layers, in order."""
    return tuple(node.name for node in graph.nodes if isinstance(node, Conv | Linear))
