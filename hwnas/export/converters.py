"""Converters of other packages, for operations that hwnas does not compile.

Their files are verified like the compiler's own.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from hwnas.architecture.artifact import Artifact, Format
from hwnas.errors import ExportError, UsageError, first_line
from hwnas.export.graph.modules import evaluating, float32_on_cpu
from hwnas.export.graph.nodes import INPUT, OUTPUT
from hwnas.export.model_file import write_artifact
from hwnas.export.recipe import find_recipe, format_of
from hwnas.export.verification.images import Verification
from hwnas.export.verification.verify import verify

ConverterName = Literal["torch-onnx", "litert-torch"]


class Converter(NamedTuple):
    """A converter of another package, and the format that it writes."""

    format: Format
    module: str


CONVERTERS: dict[ConverterName, Converter] = {
    "torch-onnx": Converter("onnx", "onnxscript"),
    "litert-torch": Converter("tflite", "litert_torch"),
}


def convert(
    name: ConverterName,
    module: nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    verification: Verification,
) -> Artifact:
    """Convert ``module`` with the converter ``name`` and verify the file.

    Raises `UsageError` if its package is not installed or writes another format than the suffix of
    ``path``, `ExportError` if the conversion or the verification fails; then there is no file.
    """
    converter = CONVERTERS[name]
    if format_of(path) != converter.format:
        raise UsageError(f"{path}: {name} writes .{converter.format} files only")
    try:
        import_module(converter.module)
    except ImportError:
        raise UsageError(
            f'the converter {name} is not installed: pip install "hwnas[{name}]"'
        ) from None

    source = float32_on_cpu(module)

    def write(target: Path) -> None:
        try:
            with evaluating(source), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _convert(name, source, torch.zeros(1, *input_shape), target)
        except OSError:
            raise
        except Exception as error:  # a converter may raise anything
            raise ExportError(f"{path}: {name} failed: {first_line(error)}") from error

    recipe = find_recipe(converter.format)
    return write_artifact(path, recipe, write, lambda file: verify(file, module, verification))


def _convert(name: ConverterName, module: nn.Module, image: torch.Tensor, path: Path) -> None:
    if name == "torch-onnx":
        torch.onnx.export(
            module,
            (image,),
            str(path),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
        return
    litert_torch: Any = import_module("litert_torch")
    nhwc = litert_torch.to_channel_last_io(module, args=[0])
    litert_torch.convert(nhwc, (image.permute(0, 2, 3, 1).contiguous(),)).export(str(path))
