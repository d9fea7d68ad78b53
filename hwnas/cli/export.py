"""`hwnas export`: compile a network, or a module of the user's own, to model files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.deliver.agreement import agreement_text, output_lines
from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.options import (
    checkpoint_option,
    input_shape_option,
    named_shapes,
    output_names_option,
)
from hwnas.cli.framework.params import (
    CALIBRATION,
    DATA,
    FILE,
    FILE_PRECISION,
    LAYERS,
    NETWORK,
    PATH,
)
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.architecture.artifact import Artifact, Format
    from hwnas.export.quantization.ptq import Int8

FORMATS = ("onnx", "tflite")
ONNX_OPTIONS = "--opset, --dynamic-batch and --dynamic-size"


@command(
    "export",
    example=(
        "hwnas export mobilenet_v3 --format onnx",
        "hwnas export nets:small --input-shape 3x32x32 --out models/small",
        "hwnas export network.onnx --format tflite",
    ),
)
@click.argument("model", type=NETWORK)
@input_shape_option("Network")
@output_names_option
@checkpoint_option("Network")
@option(
    "--format",
    "formats",
    group="Format",
    multiple=True,
    type=click.Choice(FORMATS),
    default_help="both",
    help="Format to write; repeat it for several.",
)
@option(
    "--precision",
    group="Format",
    default="fp32",
    type=FILE_PRECISION,
    help="fp16 and int8-weights store weights in 16 and 8 bits and compute in float32; "
    "int8-dynamic rounds the inputs of layers, too, by their range in each run; int8 rounds all "
    "values, by ranges measured on training images of --data or on --samples.",
)
@option(
    "--calibration",
    group="Int8",
    type=CALIBRATION,
    default_help="minmax",
    help="How ranges are measured: minmax takes the extremes, percentile and entropy cut off rare "
    "values.",
)
@option(
    "--float-layers",
    group="Int8",
    type=LAYERS,
    default_help="none",
    help="Layers that stay in float32: their names, or auto for as few as the limits demand.",
)
@option(
    "--opset",
    group="Format",
    type=click.IntRange(13),
    default_help="17",
    help="ONNX opset version.",
)
@option("--dynamic-batch", group="Format", is_flag=True, help="ONNX: accept any number of images.")
@option(
    "--dynamic-size",
    group="Format",
    is_flag=True,
    help="ONNX: accept images of any height and width.",
)
@option(
    "--via",
    group="Format",
    type=click.Choice(["torch-onnx", "litert-torch"]),
    help="Convert with another package, for operations that hwnas does not compile.",
)
@option(
    "--data",
    group="Verification",
    type=DATA,
    default_help="noise",
    help="Data set whose validation images the files are verified on. The files state its "
    "classes, and its normalisation where the network has none of its own.",
)
@option(
    "--samples",
    group="Verification",
    type=FILE,
    default_help="noise",
    help="Values of the inputs to verify on in the place of --data, as an .npz file with an array "
    "for each input; int8 is calibrated on three of four and verified on the others.",
)
@option(
    "--pixels/--no-pixels",
    group="Verification",
    default=None,
    default_help="normalised images; a network that scales its input is refused",
    help="The network takes pixels from 0 to 255 and normalises them itself.",
)
@option(
    "--images",
    group="Verification",
    type=click.IntRange(1),
    default_help="16; 8 bits: 256",
    help="Number of images to verify on.",
)
@option(
    "--out",
    group="Output",
    type=PATH,
    default=Path("model"),
    help="File name without its suffix.",
)
@json_option
def export(
    model: str,
    formats: tuple[Format, ...],
    out: Path,
    input_shapes: tuple[tuple[str | None, str], ...],
    output_names: tuple[str, ...] | None,
    checkpoint: Path | None,
    data: str | None,
    samples: Path | None,
    images: int | None,
    precision: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Compile NETWORK to ONNX and TFLite, and verify each file in its runtime against PyTorch.

    NETWORK is a folder of a run or of `hwnas train`, a published name or timm:NAME, an architecture
    (JSON file), a file of weights, a program that torch.export saved (a .pt2 file), an .onnx file
    of any origin, or module:factory, a function of your own that returns a torch.nn.Module: hwnas
    imports and runs your code. Published networks have their weights where they are on this
    machine. Files compiled from an .onnx file are compared with that file in ONNX Runtime.
    """
    _check_options(formats, precision, data, samples, **options)
    from hwnas.cli.tables import print_json
    from hwnas.export.compile import export_module
    from hwnas.export.quantization.float_layers import with_float_layers
    from hwnas.export.samples import read_samples
    from hwnas.networks.user_module import load_network
    from hwnas.networks.verification_data import calibration_images, check_kind, verification_data

    network = load_network(model, named_shapes(input_shapes), checkpoint, output_names or ())
    own, pixels = network.preprocessing, options["pixels"]
    if pixels and own is not None and not own.inside:
        raise UsageError(
            f"--pixels: {model} states that it takes normalised images; "
            "`hwnas specialize --pixels` makes files that take pixels"
        )
    if data is not None and own is None:
        check_kind(model, network.module, data, network.input_shape, pixels)
    is_int8 = precision == "int8"
    values = samples and read_samples(samples, network.interface.inputs, int8=is_int8)
    verified_on = verification_data(
        data, network, precision, images, pixels=bool(pixels), samples=values
    )
    calibration: tuple[Any, ...] = ()
    if is_int8 and data:
        calibration = (calibration_images(data, network.input_shape, own, pixels=bool(pixels)),)
    elif is_int8 and values:
        calibration = values.calibration
    _say_weights(model, network.trained)

    def compiled(format: Format, float_layers: tuple[str, ...]) -> Artifact:
        return export_module(
            network.module,
            network.interface,
            out.with_name(f"{out.name.removesuffix(f'.{format}')}.{format}"),
            verification=verified_on.verification,
            int8=_int8(format, calibration, options["calibration"], float_layers),
            architecture=network.architecture,
            preprocessing=verified_on.preprocessing,
            recipe=_recipe(format, precision, options),
            converter=options["via"],
        )

    artifacts = [
        with_float_layers(options["float_layers"] or (), partial(compiled, format))
        for format in _formats(formats, options["via"])
    ]
    if as_json:
        print_json({"verified_on": verified_on.source, "artifacts": artifacts})
        return
    labelled = verified_on.verification.labels is not None
    for artifact in artifacts:
        click.echo(_summary(artifact, verified_on.source, labelled))


def _say_weights(model: str, trained: bool) -> None:
    """Print which weights a published network has, and that weights are random."""
    from hwnas.networks.names import kind_of
    from hwnas.pretrained.sources import find_source, is_source

    published = kind_of(model) == "published" and is_source(model)
    if not trained:
        hint = f"; get trained ones by `{find_source(model).obtained_by}`" if published else ""
        click.echo(f"the weights are random, which suffices for latency{hint}", err=True)
    elif published:
        click.echo(f"{model}: with its published weights", err=True)


def _check_options(
    formats: tuple[Format, ...],
    precision: str,
    data: str | None,
    samples: Path | None,
    *,
    opset: int | None,
    dynamic_batch: bool,
    dynamic_size: bool,
    via: str | None,
    calibration: str | None,
    float_layers: tuple[str, ...] | None,
    **_: Any,
) -> None:
    onnx_options = dynamic_batch or dynamic_size or opset is not None
    if via is not None and onnx_options:
        raise UsageError(f"{ONNX_OPTIONS} cannot be combined with --via")
    if onnx_options and formats and "onnx" not in formats:
        raise UsageError(f"{ONNX_OPTIONS} need --format onnx; TFLite files state all sizes")
    if dynamic_size and precision == "int8":
        raise UsageError("--dynamic-size cannot be combined with --precision int8")
    if precision != "fp32" and via is not None:
        raise UsageError(f"--precision {precision} cannot be combined with --via")
    if data is not None and samples is not None:
        raise UsageError("--samples takes the place of --data; expected one of them")
    if precision == "int8" and data is None and samples is None:
        raise UsageError("--precision int8 needs --data or --samples, to calibrate with")
    if precision != "int8" and (calibration or float_layers):
        raise UsageError("--calibration and --float-layers need --precision int8")


def _int8(
    format: Format, inputs: Any, calibration: str | None, float_layers: tuple[str, ...]
) -> Int8 | None:
    from hwnas.export.quantization.ptq import Int8, int8_quantization

    if not inputs:
        return None
    first, *others = inputs
    quantization = int8_quantization(format, calibration)
    return Int8(first, quantization, float_layers, tuple(others))


def _formats(formats: tuple[Format, ...], via: Any) -> tuple[Format, ...]:
    from hwnas.export.converters import CONVERTERS

    if via is None:
        return tuple(dict.fromkeys(formats)) or FORMATS
    written = CONVERTERS[via].format
    if formats and set(formats) != {written}:
        raise UsageError(f"--via {via} writes {written} only")
    return (written,)


def _recipe(format: Format, precision: Any, options: dict[str, Any]) -> Any:
    from hwnas.export.recipe import find_recipe, onnx_recipe

    if format == "onnx":
        names = ("opset", "dynamic_batch", "dynamic_size")
        return onnx_recipe(precision, *(options[name] for name in names))
    return find_recipe(format, precision)


def _summary(artifact: Artifact, source: str, labelled: bool) -> str:
    parity = artifact.parity
    assert parity is not None
    runtime = f"{artifact.runtime} {artifact.runtime_version}"
    layers = f", {', '.join(artifact.float_layers)} in float32" if artifact.float_layers else ""
    sizes = ", ".join(f"{height}x{width}" for height, width in artifact.sizes)
    sizes = f", the same at {sizes}" if sizes else ""
    return (
        f"{artifact.path}: {artifact.precision}, {artifact.size_bytes / 1e6:.2f} MB, "
        f"{agreement_text(parity, source, labelled)}{sizes}{layers} ({runtime})"
    ) + "".join(f"\n  {line}" for line in output_lines(parity))
