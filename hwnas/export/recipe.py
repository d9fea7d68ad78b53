"""Recipes: a TOML file in ``export/recipes`` for each format and precision states its versions."""

from __future__ import annotations

from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

import msgspec

from hwnas.architecture.artifact import Format, Precision
from hwnas.architecture.runtimes import COMPILED
from hwnas.errors import UnknownName, UsageError
from hwnas.files import check_suffix, decode_toml
from hwnas.shipped import shipped

Calibration = Literal["minmax", "percentile", "entropy"]


class Quantization(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of an 8-bit file, and limits of its difference from float32."""

    calibration: Calibration = "minmax"
    """Calibration method of the ranges; this field and the next two are for ``int8`` only."""
    percentile: float = 99.999
    """Percentage of an activation's values that its range covers, for ``percentile``."""
    reduce_range: bool = False
    """Weights of 7 bits, for ONNX only."""
    min_label_agreement: float
    """Smallest fraction of images in which the file predicts the class that PyTorch predicts, and
    of equal elements in an output of integers."""
    max_drop: float
    """Largest loss of top-1 accuracy against PyTorch, 0 to 1."""
    min_sqnr_db: float
    """Smallest ratio of the power of the logits to that of their change."""
    min_output_sqnr_db: float
    """The same for every output of a network that is no classifier."""


class _Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="format"):
    precision: Precision
    max_relative_error: float | None = None
    """Limit of `Parity.max_relative_error` above which a file is rejected; None where
    ``quantization`` has limits."""
    quantization: Quantization | None = None
    """Settings of a recipe of 8 bits."""


class OnnxRecipe(_Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="onnx"):
    runtime: Literal["onnxruntime"]
    layout: Literal["NCHW"]
    opset: int
    ir_version: int
    dynamic_batch: bool = False
    """Whether the file accepts any number of images at once."""
    dynamic_size: bool = False
    """Whether the file accepts images of any height and width that the network accepts."""

    @property
    def format(self) -> Format:
        return "onnx"


class TfliteRecipe(_Recipe, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="tflite"):
    runtime: Literal["litert"]
    layout: Literal["NHWC"]
    schema_version: int

    @property
    def format(self) -> Format:
        return "tflite"


Recipe = OnnxRecipe | TfliteRecipe


def format_of(path: Path) -> Format:
    """Return the format that the suffix of ``path`` states. Raises `UsageError` for any other."""
    for format in COMPILED:
        if path.suffix == f".{format}":
            return format
    check_suffix(path, [f".{format}" for format in COMPILED])
    raise UsageError(f"{path}: expected a file name that ends in .onnx or .tflite")


def onnx_recipe(
    precision: Precision, opset: int | None, dynamic_batch: bool, dynamic_size: bool = False
) -> OnnxRecipe:
    """Return the shipped ONNX recipe with another opset, a dynamic batch or a dynamic size."""
    recipe = find_recipe("onnx", precision)
    assert isinstance(recipe, OnnxRecipe)
    return msgspec.structs.replace(
        recipe,
        opset=opset or recipe.opset,
        dynamic_batch=dynamic_batch,
        dynamic_size=dynamic_size,
    )


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
    """Read a recipe. Raises `InvalidFile` that names a wrong or unknown field with its path."""
    return decode_toml(file.read_bytes(), Recipe, str(file))  # type: ignore[arg-type]
