"""From a float32 file to an int8 one: post-training static quantisation with calibration images.

What the activations' ranges are is found by running the float file on images (Jacob et al., CVPR
2018, arXiv:1712.05877); weights are quantised by output channel. Both formats get the same images.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.nodes import Conv, Graph, Linear
from hwnas.export.recipe import Quantization, find_recipe

Array = np.ndarray[Any, Any]
CALIBRATION_IMAGES = 256
"""Training images on which the ranges of an int8 file are measured."""


def quantize(
    source: Path,
    target: Path,
    format: Format,
    images: Array,
    how: Quantization | None = None,
    float_layers: tuple[str, ...] = (),
) -> None:
    """Write the int8 file of the float32 file ``source``.

    ``images`` ``[N, C, H, W]`` are normalised ones from training or validation data. ``how``
    stands for the recipe's settings; ``float_layers`` (of `layers`) stay in float32. Raises
    `ExportError` if there are no images or a value in them is not finite.
    """
    _check(images)
    how = how or quantization_of(format)
    if format == "onnx":
        from hwnas.export.onnx.quantize import quantize_onnx

        quantize_onnx(source, target, images, how, float_layers)
    else:
        from hwnas.export.tflite.quantize import quantize_tflite

        quantize_tflite(source, target, images, how, float_layers)


def quantization_of(format: Format, calibration: str | None = None) -> Quantization:
    """Return the settings of the format's int8 recipe, with another ``calibration`` if given."""
    import msgspec

    found = find_recipe(format, "int8").quantization
    if found is None:
        raise ExportError(f"the recipe {format}-int8 has no [quantization]")
    if calibration is None:
        return found
    known = ("minmax", "percentile", "entropy") if format == "onnx" else ("minmax", "percentile")
    if calibration not in known:
        raise UsageError(
            f"calibration {calibration!r} is not offered for {format}; known: {', '.join(known)}"
        )
    return msgspec.structs.replace(found, calibration=calibration)


def layers(graph: Graph) -> tuple[str, ...]:
    """Return the names of all layers with weights, in order."""
    return tuple(node.name for node in graph.nodes if isinstance(node, Conv | Linear))


def _check(images: Array) -> None:
    if images.ndim != 4 or not len(images):
        raise ExportError(
            f"int8 needs calibration images [N, C, H, W], got {list(images.shape)}: the ranges of "
            "all values are measured on them"
        )
    if not np.isfinite(images).all():
        raise ExportError("a calibration image has a value that is not finite")
