"""Recipes: one TOML file in ``export/recipes`` says what a format and precision are made of."""

from __future__ import annotations

from functools import cache
from importlib.resources.abc import Traversable
from typing import Literal

import msgspec

from hwnas.architecture.artifact import Format, Precision
from hwnas.errors import InvalidFile, UnknownName
from hwnas.shipped import shipped

Calibration = Literal["minmax", "percentile", "entropy"]


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How an int8 file is made, and what it must be worth to be kept."""

    calibration: Calibration
    """``entropy`` is for ONNX only."""
    percentile: float
    """Share of an activation's values, in percent, that its range holds; of ``percentile``."""
    reduce_range: bool = False
    """Weights of 7 bits; for ONNX only."""
    min_label_agreement: float
    """Smallest share of images in which the file sees the class that PyTorch sees."""
    max_drop: float
    """Largest loss of top-1 accuracy against PyTorch, as a share of 1."""


class OnnxRecipe(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="onnx"
):
    precision: Precision
    runtime: Literal["onnxruntime"]
    layout: Literal["NCHW"]
    opset: int
    ir_version: int
    max_relative_error: float | None = None
    """Limit of `Parity.max_relative_error`; a file above it is not kept. ``None`` for int8."""
    quantization: Quantization | None = None
    """Of int8."""
    dynamic_batch: bool = False
    """Whether the file takes any number of images at once."""


class TfliteRecipe(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format", tag="tflite"
):
    precision: Precision
    runtime: Literal["litert"]
    layout: Literal["NHWC"]
    schema_version: int
    max_relative_error: float | None = None
    """Limit of `Parity.max_relative_error`; a file above it is not kept. ``None`` for int8."""
    quantization: Quantization | None = None
    """Of int8."""


Recipe = OnnxRecipe | TfliteRecipe


@cache
def find_recipe(format: Format, precision: Precision = "fp32") -> Recipe:
    """Return the shipped recipe of a format and precision."""
    folder = shipped("export") / "recipes"
    files = {file.name.removesuffix(".toml"): file for file in folder.iterdir()}
    name = f"{format}-{precision}"
    if name not in files:
        raise UnknownName("recipe", name, files)
    return read_recipe(files[name])


def read_recipe(file: Traversable) -> Recipe:
    """Read one recipe; a wrong or unknown field is named with its path."""
    try:
        return msgspec.toml.decode(file.read_bytes(), type=Recipe)  # type: ignore[arg-type]
    except msgspec.DecodeError as error:
        raise InvalidFile(str(file), str(error)) from None
