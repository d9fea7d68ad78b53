"""Post-training static quantisation of a float32 file to int8.

The ranges of activations are measured by running the float file on calibration images (Jacob et
al., CVPR 2018, arXiv:1712.05877); weights are quantised per output channel. Both formats get the
same images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

from hwnas.architecture.artifact import Format
from hwnas.errors import ExportError, UnknownName
from hwnas.export.graph.nodes import Conv, Graph, Linear
from hwnas.export.quantization.onnx import onnx_values, quantize_onnx
from hwnas.export.quantization.ranges import Ranges, check_samples, measure_ranges
from hwnas.export.quantization.tflite import quantize_tflite, tflite_values
from hwnas.export.recipe import Calibration, Quantization, find_recipe, format_of
from hwnas.export.verification.metrics import Array

CALIBRATION_IMAGES = 256
"""Number of training images or samples on which ranges are measured."""


class Int8(NamedTuple):
    """Settings and calibration values for quantising a network to int8."""

    calibration: Array
    """Values of the first input, ``[N, ...]``: training images ``[N, C, H, W]`` as a rule, other
    than those it is verified on."""
    quantization: Quantization | None = None
    """Settings of the quantisation; None: those of the recipe."""
    float_layers: tuple[str, ...] = ()
    """Names of layers (see `weighted_layers`) that stay in float32."""
    others: tuple[Array, ...] = ()
    """Values of the other inputs, in order, ``[N, ...]`` each."""

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Calibration values of all inputs."""
        return (self.calibration, *self.others)


def quantize(source: Path, target: Path, int8: Int8) -> None:
    """Write the int8 file of the float32 file ``source``.

    Raises `ExportError` if no ranges can be measured on the calibration images.
    """
    write_int8(source, target, int8, value_ranges(source, int8))


def value_ranges(source: Path, int8: Int8) -> Ranges:
    """Return the range of every value of the float32 file ``source`` on the calibration images."""
    check_samples(int8.inputs)
    quantization = int8.quantization or int8_quantization(format_of(source))
    return measure_ranges(lambda: file_values(source, int8.inputs), quantization)


def file_values(path: Path, inputs: Sequence[Array]) -> Iterator[Mapping[str, Array]]:
    """Yield for each sample all values that a file computes, by name; those of int8 as numbers.

    ``inputs`` have N samples each, in the order of the file's inputs.
    """
    return (onnx_values if format_of(path) == "onnx" else tflite_values)(path, inputs)


def write_int8(source: Path, target: Path, int8: Int8, ranges: Ranges) -> None:
    """Write the int8 file of the float32 file ``source`` with the ranges of its values."""
    format = format_of(target)
    if format == "onnx":
        quantization = int8.quantization or int8_quantization(format)
        quantize_onnx(source, target, ranges, quantization, int8.float_layers)
    else:
        quantize_tflite(source, target, ranges, int8.float_layers)


def int8_quantization(format: Format, calibration: str | None = None) -> Quantization:
    """Return the settings of the format's int8 recipe, with another ``calibration`` if given."""
    quantization = find_recipe(format, "int8").quantization
    if quantization is None:
        raise ExportError(f"the recipe {format}-int8 has no [quantization]")
    if calibration is None:
        return quantization
    if calibration not in get_args(Calibration):
        raise UnknownName("calibration", calibration, get_args(Calibration))
    return msgspec.structs.replace(quantization, calibration=calibration)


def check_layer_names(graph: Graph, layers: tuple[str, ...]) -> None:
    """Raise `UnknownName` for a layer that is not in ``graph``."""
    names = {node.name for node in graph.nodes}
    for layer in layers:
        if layer not in names:
            raise UnknownName("layer", layer, names)


def weighted_layers(graph: Graph) -> tuple[str, ...]:
    """Return the names of all convolutions and linear layers, in order."""
    return tuple(node.name for node in graph.nodes if isinstance(node, Conv | Linear))
