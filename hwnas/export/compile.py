"""Compiles a PyTorch module to a verified model file, or to no file at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact, Format, Parity
from hwnas.errors import UsageError
from hwnas.export.converters import ConverterName, convert
from hwnas.export.graph.interface import InputShapes, Interface
from hwnas.export.graph.modules import ForeignModule, explains
from hwnas.export.graph.resized import size_of, trace_resized
from hwnas.export.graph.trace import as_interface, trace
from hwnas.export.metadata.architecture import architecture_metadata
from hwnas.export.metadata.input import Preprocessing, input_metadata
from hwnas.export.metadata.preprocessing import fold_input_affine, with_normalisation
from hwnas.export.model_file import write_artifact
from hwnas.export.quantization.int8_agreement import verify_int8
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
from hwnas.export.verification.images import (
    IMAGES,
    NOISE_INPUTS,
    Verification,
    noise_inputs,
)
from hwnas.export.verification.metrics import is_logits
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.sizes import larger, verify_sizes
from hwnas.export.verification.verify import verify, verify_dynamic_batch
from hwnas.export.write import write_graph


@explains
def export_module(
    module: nn.Module,
    inputs: InputShapes | Interface,
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
    that makes a float32 file from operations that hwnas does not compile. Raises `UsageError` where
    ``path`` is the file that ``module`` was read from.
    """
    if isinstance(module, ForeignModule) and path.exists() and path.samefile(module.path):
        raise UsageError(f"{path}: is the file that is compiled; choose another --out")
    interface = as_interface(module, inputs)
    count = NOISE_INPUTS if int8 is None else IMAGES["int8"]
    verification = verification or noise_for(module, interface, count)
    # also reports a module that PyTorch itself cannot run, before any work
    first = module_outputs(module, interface, [array[:1] for array in verification.inputs])
    if preprocessing is not None and not _has_classes(first, preprocessing):
        preprocessing = None
    if converter is None:
        return compile_model(
            module,
            interface,
            path,
            verification=verification,
            int8=int8,
            architecture=architecture,
            preprocessing=preprocessing,
            recipe=recipe,
        )
    if int8 is not None:
        raise UsageError(f"the converter {converter} makes no int8 files; expected float32")
    metadata = _metadata(architecture, preprocessing, format_of(path), interface)
    return convert(converter, module, interface, path, verification, first, metadata)


def noise_for(module: nn.Module, interface: Interface, count: int | None = None) -> Verification:
    """Return noise for the inputs of ``module``; integers are rows of its smallest embedding."""
    if isinstance(module, ForeignModule):
        first, *others = module.noise(interface.inputs, count or NOISE_INPUTS)
        return Verification(first, None, tuple(others))
    tables = [part.num_embeddings for part in module.modules() if isinstance(part, nn.Embedding)]
    return noise_inputs(interface.inputs, count, below=min(tables, default=2))


def _has_classes(outputs: dict[str, Any], preprocessing: Preprocessing) -> bool:
    return is_logits(outputs) and next(iter(outputs.values())).shape[2] == len(preprocessing.labels)


@explains
def compile_model(
    module: nn.Module,
    inputs: InputShapes | Interface,
    path: Path,
    *,
    verification: Verification | None = None,
    int8: Int8 | None = None,
    architecture: Architecture | None = None,
    preprocessing: Preprocessing | None = None,
    recipe: Recipe | None = None,
) -> Artifact:
    """Compile ``module`` for a batch of one to ``path``.

    ``inputs`` are shapes without the batch, such as (channels, height, width). The suffix of
    ``path``, ``.onnx`` or ``.tflite``, selects the format; with ``int8`` the file is quantised. It
    is compared with the module on the inputs of ``verification``, else only opened in its runtime.
    ``architecture`` and ``preprocessing`` are written into the file; with
    ``preprocessing.embedded`` the normalisation is compiled into it, and all images given here are
    pixels from 0 to 255. ``recipe`` replaces the shipped recipe,
    as that of ``fp16`` or ``int8-weights`` for smaller weights.

    The file appears under its name when all of this has succeeded; after an `ExportError` a file
    that existed before is unchanged.
    """
    format = format_of(path)
    recipe = recipe or find_recipe(format, "fp32" if int8 is None else "int8")
    interface = as_interface(module, inputs)
    metadata = _metadata(architecture, preprocessing, format, interface)
    any_batch = isinstance(recipe, OnnxRecipe) and recipe.dynamic_batch
    embedded = preprocessing is not None and preprocessing.embedded
    if preprocessing is not None and embedded:
        module = with_normalisation(module, preprocessing)
    graph = trace(module, interface, any_batch=any_batch, shares_weights=True)
    resized = None
    if isinstance(recipe, OnnxRecipe) and recipe.dynamic_size:
        if int8 is not None:
            raise UsageError("a dynamic height and width cannot be combined with int8")
        resized = trace_resized(module, interface, any_batch=any_batch)
    graph = fold_input_affine(graph) if embedded else graph
    quantization = None if int8 is None else int8.quantization or int8_quantization(format)

    if int8 is not None:
        check_layer_names(graph, int8.float_layers)
    if int8 is not None and verification is not None:
        for given, calibration in zip(verification.inputs, int8.inputs, strict=True):
            check_covered(given, calibration)

    def write(target: Path) -> None:
        other = None if resized is None else resized.graph
        other = fold_input_affine(other) if embedded and other is not None else other
        write_graph(graph, recipe, target, metadata, other)
        if int8 is not None:
            quantize(target, target, int8)

    def check(target: Path) -> Parity | None:
        if verification is None:
            return None
        precision = recipe.precision
        if int8 is not None and quantization is not None:
            model = FloatModel(module, interface, format, int8)
            with naming_float_layers(model, graph, verification):
                parity = verify_int8(target, module, verification, quantization, interface)
            if any_batch:
                verify_dynamic_batch(target, module, verification, interface, precision)
            return parity
        with locate_difference(target, module, interface, verification.inputs, precision):
            parity = verify(target, module, verification, interface, precision=precision)
        if any_batch:
            verify_dynamic_batch(target, module, verification, interface, precision)
        if resized is not None:
            offset = resized.offset
            verify_sizes(target, module, verification, interface, offset, precision)
        return parity

    artifact = write_artifact(path, recipe, write, check)
    if resized is not None and verification is not None:
        sizes = tuple(size_of(each) for each in larger(interface, resized.offset))
        artifact = msgspec.structs.replace(artifact, sizes=sizes)
    if int8 is None or quantization is None:
        return artifact
    return msgspec.structs.replace(
        artifact, calibration=quantization.calibration, float_layers=int8.float_layers
    )


def _metadata(
    architecture: Architecture | None,
    preprocessing: Preprocessing | None,
    format: Format,
    interface: Interface,
) -> dict[str, bytes]:
    metadata = {} if architecture is None else architecture_metadata(architecture)
    if preprocessing is not None:
        metadata |= input_metadata(preprocessing, format, _image_shape(interface))
    return metadata


def _image_shape(interface: Interface) -> tuple[int, int, int]:
    """Return channels, height and width of the only input, if it is an image."""
    shapes = [each.item_shape for each in interface.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 3:
        raise UsageError(f"a data set has images [C, H, W]; the network takes {shapes}")
    channels, height, width = shapes[0]
    return channels, height, width
