"""Other converters, for networks outside the compiler's ops; their files are verified the same."""

from __future__ import annotations

import hashlib
import os
import warnings
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Artifact, Format
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.trace import evaluating
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.verify import verify

Array = np.ndarray[Any, Any]
Via = Literal["torch-onnx", "litert-torch"]


class Converter(NamedTuple):
    """A converter of another package, and the format that it writes."""

    format: Format
    module: str


CONVERTERS: dict[Via, Converter] = {
    "torch-onnx": Converter("onnx", "onnxscript"),
    "litert-torch": Converter("tflite", "litert_torch"),
}


def compile_via(
    via: Via, module: nn.Module, input_shape: tuple[int, int, int], path: Path, images: Array,
    labels: Array,
) -> Artifact:  # fmt: skip
    """Convert with ``via``, verify on ``images`` and ``labels``; else there is no file.

    Raises `UsageError` where its package is not installed, `ExportError` where it or the
    verification fails.
    """
    format, module_name = CONVERTERS[via]
    recipe = find_recipe(format)
    try:
        import_module(module_name)
    except ImportError:
        raise UsageError(f'--via {via} needs more: pip install "hwnas[{via}]"') from None
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with evaluating(module), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _convert(via, module, torch.zeros(1, *input_shape), temporary)
        version = open_model(str(temporary), recipe.runtime, 1).version
        parity = verify(temporary, format, module, images, labels)
        data = temporary.read_bytes()
        os.replace(temporary, path)
    except ExportError as error:
        raise ExportError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error})") from error
    except Exception as error:  # whatever a converter makes of the network
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ExportError(f"{path}: {via} failed: {first}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Artifact(
        path=str(path),
        format=format,
        precision="fp32",
        runtime=recipe.runtime,
        runtime_version=version,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        parity=parity,
    )


def _convert(via: Via, module: nn.Module, image: torch.Tensor, path: Path) -> None:
    if via == "torch-onnx":
        torch.onnx.export(
            module, (image,), str(path), dynamo=True, external_data=False, verbose=False,
            input_names=["images"], output_names=["logits"],
        )  # fmt: skip
        return
    litert_torch: Any = import_module("litert_torch")
    nhwc = litert_torch.to_channel_last_io(module, args=[0])
    litert_torch.convert(nhwc, (image.permute(0, 2, 3, 1).contiguous(),)).export(str(path))
