"""Converters of other packages, for operations that hwnas does not compile.

Their files are verified like the compiler's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Artifact, Format
from hwnas.errors import ExportError, UsageError, first_line
from hwnas.export.graph.interface import Interface, torch_dtype
from hwnas.export.graph.modules import evaluating, float32_on_cpu
from hwnas.export.metadata.entries import write_entries
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
    interface: Interface,
    path: Path,
    verification: Verification,
    outputs: Mapping[str, np.ndarray],
    metadata: Mapping[str, bytes],
) -> Artifact:
    """Convert ``module`` with the converter ``name`` and verify the file.

    ``outputs`` has what the module returns for one of each input, by name, ``[1, 1, ...]`` each;
    ``metadata`` is written into the file. Raises `UsageError` if the converter's package is not
    installed or writes another format than the suffix of ``path``, `ExportError` if the conversion
    or the verification fails; then there is no file.
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

    source = Returning(float32_on_cpu(module), interface)
    tensors = tuple(
        torch.zeros(each.shape, dtype=torch_dtype(each.dtype)) for each in interface.inputs
    )

    def write(target: Path) -> None:
        try:
            with evaluating(source), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if name == "torch-onnx":
                    _convert_to_onnx(source, tensors, target, list(outputs))
                else:
                    maps = [n for n, value in enumerate(outputs.values()) if value.ndim == 5]
                    _convert_to_tflite(source, tensors, target, maps)
            write_entries(target, metadata)
        except OSError:
            raise
        except Exception as error:  # a converter may raise anything
            raise ExportError(f"{path}: {name} failed: {first_line(error)}") from error

    recipe = find_recipe(converter.format)
    return write_artifact(
        path, recipe, write, lambda file: verify(file, module, verification, interface)
    )


class Returning(nn.Module):
    """A module that takes its inputs in order and returns a tuple of its outputs, or only one."""

    def __init__(self, module: nn.Module, interface: Interface) -> None:
        super().__init__()
        self.module, self.interface = module, interface

    def forward(self, *inputs: torch.Tensor) -> Any:
        outputs = list(self.interface.call(self.module, inputs).values())
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


def _convert_to_onnx(
    source: Returning, tensors: tuple[torch.Tensor, ...], path: Path, names: list[str]
) -> None:
    torch.onnx.export(
        source,
        tensors,
        str(path),
        dynamo=True,
        external_data=False,
        verbose=False,
        input_names=list(source.interface.input_names),
        output_names=names,
    )


def _convert_to_tflite(
    source: Returning, tensors: tuple[torch.Tensor, ...], path: Path, maps: list[int]
) -> None:
    """Convert with feature maps in NHWC; ``maps`` are the numbers of the outputs that are."""
    litert_torch: Any = import_module("litert_torch")
    images = [place for place, tensor in enumerate(tensors) if tensor.dim() == 4]
    nhwc = litert_torch.to_channel_last_io(source, args=images, outputs=maps)
    stored = tuple(
        tensor.permute(0, 2, 3, 1).contiguous() if place in images else tensor
        for place, tensor in enumerate(tensors)
    )
    litert_torch.convert(nhwc, stored).export(str(path))
