"""Compiles a PyTorch module to a verified model file, or to no file at all."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact, Parity
from hwnas.errors import UsageError
from hwnas.export.converters import ConverterName, convert
from hwnas.export.graph.trace import trace
from hwnas.export.metadata.architecture import architecture_metadata
from hwnas.export.metadata.input import Preprocessing, input_metadata
from hwnas.export.metadata.preprocessing import fold_input_affine, with_normalisation
from hwnas.export.model_file import write_artifact
from hwnas.export.quantization.ptq import (
    Int8,
    check_layer_names,
    int8_quantization,
    quantize,
)
from hwnas.export.quantization.ranges import check_covered
from hwnas.export.quantization.sensitivity import FloatModel, naming_float_layers
from hwnas.export.recipe import OnnxRecipe, Recipe, find_recipe, format_of
from hwnas.export.verification.bisect import locate_difference
from hwnas.export.verification.images import Verification, noise_images
from hwnas.export.verification.int8_agreement import verify_int8
from hwnas.export.verification.verify import torch_outputs, verify, verify_dynamic_batch
from hwnas.export.write import write_graph


def export_module(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    *,
    verification: Verification | None = None,
    int8: Int8 | None = None,
    architecture: Architecture | None = None,
    preprocessing: Preprocessing | None = None,
    recipe: Recipe | None = None,
    converter: ConverterName | None = None,
) -> Artifact:
    """Compile ``module`` to ``path``, an ``.onnx`` or ``.tflite`` file, and verify it.

    As `compile_model`, but always verified: without ``verification`` on noise. ``preprocessing``
    is not written if the module has another number of classes. ``converter`` names another package
    that makes a float32 file from operations that hwnas does not compile.
    """
    images, labels = verification or noise_images(input_shape, "fp32" if int8 is None else "int8")
    if labels is None:  # also reports a module that PyTorch itself cannot run, before any work
        labels = torch_outputs(module, images).argmax(axis=1)
    verification = Verification(images, labels)
    if preprocessing is not None and not _has_classes(module, images, preprocessing):
        preprocessing = None
    if converter is None:
        return compile_model(
            module,
            input_shape,
            path,
            verification=verification,
            int8=int8,
            architecture=architecture,
            preprocessing=preprocessing,
            recipe=recipe,
        )
    if int8 is not None:
        raise UsageError(f"the converter {converter} makes no int8 files; expected float32")
    return convert(converter, module, input_shape, path, verification)


def _has_classes(module: nn.Module, images: np.ndarray, preprocessing: Preprocessing) -> bool:
    return torch_outputs(module, images[:1]).shape[1:] == (len(preprocessing.labels),)


def compile_model(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    *,
    verification: Verification | None = None,
    int8: Int8 | None = None,
    architecture: Architecture | None = None,
    preprocessing: Preprocessing | None = None,
    recipe: Recipe | None = None,
) -> Artifact:
    """Compile ``module`` for one image of ``input_shape`` (channels, height, width) to ``path``.

    The suffix of ``path``, ``.onnx`` or ``.tflite``, selects the format; with ``int8`` the file is
    quantised. It is compared with the module on the images of ``verification``, else only opened
    in its runtime. ``architecture`` and ``preprocessing`` are written into the file; with
    ``preprocessing.embedded`` the normalisation is compiled into it, and all images given here are
    pixels from 0 to 255. ``recipe`` replaces the shipped recipe.

    The file appears under its name when all of this has succeeded; after an `ExportError` a file
    that existed before is unchanged.
    """
    format = format_of(path)
    recipe = recipe or find_recipe(format, "fp32" if int8 is None else "int8")
    metadata = {} if architecture is None else architecture_metadata(architecture)
    any_batch = isinstance(recipe, OnnxRecipe) and recipe.dynamic_batch
    if preprocessing is None:
        graph = trace(module, input_shape, any_batch=any_batch)
    else:
        metadata |= input_metadata(preprocessing, format, input_shape)
        if preprocessing.embedded:
            module = with_normalisation(module, preprocessing)
        graph = trace(module, input_shape, any_batch=any_batch)
        graph = fold_input_affine(graph) if preprocessing.embedded else graph
    quantization = None if int8 is None else int8.quantization or int8_quantization(format)

    if int8 is not None:
        check_layer_names(graph, int8.float_layers)
    if int8 is not None and verification is not None:
        check_covered(verification.images, int8.calibration)

    def write(target: Path) -> None:
        write_graph(graph, recipe, target, metadata)
        if int8 is not None:
            quantize(target, target, int8)

    def check(target: Path) -> Parity | None:
        if verification is None:
            return None
        if int8 is not None and quantization is not None:
            model = FloatModel(module, input_shape, format, int8)
            with naming_float_layers(model, graph, verification):
                return verify_int8(target, module, verification, quantization)
        with locate_difference(target, module, verification.images):
            parity = verify(target, module, verification)
        if any_batch:
            verify_dynamic_batch(target, module, verification.images)
        return parity

    artifact = write_artifact(path, recipe, write, check)
    if int8 is None or quantization is None:
        return artifact
    return msgspec.structs.replace(
        artifact, calibration=quantization.calibration, float_layers=int8.float_layers
    )
