"""From a PyTorch module to a verified model file, or to no file at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact, Format, Parity, Precision
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Graph
from hwnas.export.graph.trace import trace
from hwnas.export.metadata.architecture import notes_of
from hwnas.export.metadata.preprocessing import Preprocessing, folded, input_note, taking_pixels
from hwnas.export.onnx.emitter import write_onnx
from hwnas.export.quantization.ptq import quantization_of, quantize
from hwnas.export.recipe import OnnxRecipe, Quantization, Recipe, find_recipe
from hwnas.export.tflite.emitter import write_tflite
from hwnas.export.verification.bisect import located
from hwnas.export.verification.int8_agreement import agreement
from hwnas.export.verification.verify import verify

Array = np.ndarray[Any, Any]


def compile_model(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    format: Format,
    path: Path,
    images: Array | None = None,
    labels: Array | None = None,
    architecture: Architecture | None = None,
    *,
    precision: Precision = "fp32",
    calibration: Array | None = None,
    quantization: Quantization | None = None,
    float_layers: tuple[str, ...] = (),
    preprocessing: Preprocessing | None = None,
    recipe: Recipe | None = None,
) -> Artifact:
    """Compile ``module`` for one image of ``input_shape`` and write it to ``path``.

    Verified on normalised ``images`` ``[N, C, H, W]`` and ``labels`` ``[N]`` if they are given,
    else only opened in the runtime. ``architecture`` is written into it, see `embedded`. The file
    appears under its name when all of that is done; after an `ExportError` there is none (one that
    was there before stays).

    ``int8`` takes ``calibration`` images ``[N, C, H, W]``, which are not those that it is verified
    on; ``quantization`` instead of the recipe's; and layers that stay in float32, see `quantize`.

    ``recipe`` is another than the shipped one of the format and precision.

    ``preprocessing`` is written into the file; one ``inside`` is compiled before the module, and
    all images are pixels from 0 to 255 then.
    """
    if (images is None) != (labels is None):
        raise ValueError("to verify takes both images and labels")
    if (precision == "int8") != (calibration is not None):
        raise ValueError("int8, and nothing else, takes calibration images")
    if preprocessing is not None and preprocessing.inside:
        module = taking_pixels(module, preprocessing)
    recipe = recipe or find_recipe(format, precision)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        notes = notes_of(architecture) if architecture is not None else {}
        graph = trace(module, input_shape)
        if preprocessing is not None:
            notes |= input_note(preprocessing, format, input_shape)
            graph = folded(graph) if preprocessing.inside else graph
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(graph, recipe, temporary, notes)
        if calibration is not None:
            quantization = quantization or quantization_of(format)
            quantize(temporary, temporary, format, calibration, quantization, float_layers)
        version = _runtime_version(temporary, recipe)
        parity: Parity | None = None
        if images is not None and labels is not None:
            if quantization is None:
                with located(temporary, format, module, images):
                    parity = verify(temporary, format, module, images, labels)
            else:
                parity = agreement(temporary, format, module, images, labels, quantization)
        data = temporary.read_bytes()
        os.replace(temporary, path)
    except ExportError as error:
        raise ExportError(str(error).replace(str(temporary), str(path))) from error
    except OSError as error:
        raise ExportError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return Artifact(
        path=str(path),
        format=format,
        precision=recipe.precision,
        runtime=recipe.runtime,
        runtime_version=version,
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        parity=parity,
        calibration="" if quantization is None else quantization.calibration,
        float_layers=float_layers,
    )


def _write(graph: Graph, recipe: Recipe, path: Path, notes: dict[str, bytes]) -> None:
    if isinstance(recipe, OnnxRecipe):
        write_onnx(
            graph,
            path,
            opset=recipe.opset,
            ir_version=recipe.ir_version,
            metadata=notes,
            dynamic_batch=recipe.dynamic_batch,
        )
    else:
        write_tflite(graph, path, schema_version=recipe.schema_version, metadata=notes)


def _runtime_version(path: Path, recipe: Recipe) -> str:
    """Open the file, so that one which the runtime refuses is an error; return its version."""
    try:
        return open_model(str(path), recipe.runtime, 1).version
    except (RuntimeError, ValueError) as error:
        raise ExportError(
            f"{path}: {recipe.runtime} cannot open it: {getattr(error, 'why', error)}"
        ) from error
