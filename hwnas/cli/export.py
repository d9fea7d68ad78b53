"""`hwnas export`: compile a network, or a module of the user's own, to model files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from hwnas.architecture.artifact import Artifact
    from hwnas.networks.user_module import Images, Named


@click.command("export")
@click.argument("model")
@click.option("--format", "formats", multiple=True, type=click.Choice(["onnx", "tflite"]),
              help="May be given twice.  [default: both]")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("model"), show_default=True,
              help="The file's name, without the format.")  # fmt: skip
@click.option("--input-shape", help="Of a module of your own, e.g. 3x224x224.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights (.safetensors).")
@click.option("--data", help="Verify on its validation images.  [default: noise]")
@click.option("--images", type=click.IntRange(1),
              help="To verify with.  [default: 16; int8: 256]")  # fmt: skip
@click.option("--precision", default="fp32", show_default=True, type=click.Choice(["fp32", "int8"]),
              help="int8 takes the ranges of values from training images of --data.")  # fmt: skip
@click.option("--opset", type=click.IntRange(13), help="Of ONNX.  [default: the recipe's]")
@click.option("--dynamic-batch", is_flag=True, help="ONNX: any number of images at once.")
@click.option("--via", type=click.Choice(["torch-onnx", "litert-torch"]),
              help="Another converter, for what is outside the compiler's ops.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def export(
    model: str, formats: tuple[str, ...], out: Path, input_shape: str | None,
    checkpoint: Path | None, data: str | None, images: int | None, precision: str,
    opset: int | None, dynamic_batch: bool, via: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Compile MODEL to ONNX and TFLite, each file verified in its runtime against PyTorch.

    MODEL is a run folder, an architecture (JSON file or published name), or `module:factory`, a
    function that returns a torch.nn.Module: that imports and runs your code.
    """
    from hwnas.cli.tables import print_json
    from hwnas.networks.user_module import calibration_images, find_images, find_module

    made = _formats(formats, via, opset, dynamic_batch)
    if precision == "int8" and (data is None or via is not None):
        raise UsageError(
            "--precision int8 needs --data, for images to calibrate with, and is not for --via"
        )
    named = find_module(model, parse_shape(input_shape), checkpoint)
    count = images or (256 if precision == "int8" else 16)
    found = find_images(data, count, named.input_shape)
    calibration = None
    if data is not None and precision == "int8":
        calibration = calibration_images(data, named.input_shape)
    if not named.trained:
        click.echo("no checkpoint: the weights are random, good for latency only", err=True)
    artifacts = _written(named, found, calibration, made, out, opset, dynamic_batch, via)
    if as_json:
        print_json({"verified_on": found.source, "artifacts": artifacts})
        return
    for one in artifacts:
        click.echo(_said(one, found))


def parse_shape(text: str | None) -> tuple[int, int, int] | None:
    """Read ``3x224x224``."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{text!r} is no input shape; expected CxHxW, e.g. 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def _formats(
    formats: tuple[str, ...], via: str | None, opset: int | None, dynamic_batch: bool
) -> tuple[str, ...]:
    from hwnas.export.converters import CONVERTERS

    made = None if via is None else CONVERTERS[via].format  # type: ignore[index]
    if made is not None and formats and set(formats) != {made}:
        raise UsageError(f"--via {via} makes {made} only")
    if made is not None and (dynamic_batch or opset is not None):
        raise UsageError("--opset and --dynamic-batch are of the compiler's own ONNX")
    if (dynamic_batch or opset is not None) and "onnx" not in (formats or ("onnx",)):
        raise UsageError("--opset and --dynamic-batch are for --format onnx")
    return (made,) if made is not None else tuple(dict.fromkeys(formats)) or ("onnx", "tflite")


def _written(
    named: Named, found: Images, calibration: np.ndarray | None, formats: tuple[str, ...],
    out: Path, opset: int | None, dynamic_batch: bool, via: str | None,
) -> list[Artifact]:  # fmt: skip
    import msgspec

    from hwnas.export.compile import compile_model
    from hwnas.export.converters import compile_via
    from hwnas.export.recipe import OnnxRecipe, find_recipe
    from hwnas.export.verification.verify import torch_outputs

    labels = found.labels
    if labels is None:  # PyTorch's own answers: the accuracy is how often the file agrees
        labels = torch_outputs(named.module, found.images).argmax(axis=1)
    artifacts: list[Artifact] = []
    for format in formats:
        path = out.with_name(f"{out.name.removesuffix(f'.{format}')}.{format}")
        shape = named.input_shape
        if via is not None:
            artifacts.append(
                compile_via(via, named.module, shape, path, found.images, labels)  # type: ignore[arg-type]
            )
            continue
        precision = "fp32" if calibration is None else "int8"
        recipe = find_recipe(format, precision)  # type: ignore[arg-type]
        if isinstance(recipe, OnnxRecipe):
            recipe = msgspec.structs.replace(
                recipe, opset=opset or recipe.opset, dynamic_batch=dynamic_batch
            )
        artifacts.append(
            compile_model(
                named.module,
                shape,
                format,  # type: ignore[arg-type]
                path,
                found.images,
                labels,  # type: ignore[arg-type]
                named.architecture,
                recipe=recipe,
                precision=precision,
                calibration=calibration,
            )
        )
    return artifacts


def _said(artifact: Artifact, found: Images) -> str:
    parity = artifact.parity
    assert parity is not None
    same = f"accuracy {parity.accuracy_artifact:.2%} (PyTorch {parity.accuracy_torch:.2%})"
    if found.labels is None:
        same = f"the same class in {parity.accuracy_artifact:.0%}"
    return (
        f"{artifact.path}: {artifact.size_bytes / 1e6:.2f} MB, "
        f"error {parity.max_relative_error:.1e} of the largest output on {found.source}, "
        f"{same} ({artifact.runtime} {artifact.runtime_version})"
    )
