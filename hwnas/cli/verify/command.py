"""`hwnas verify`: does a model file do what its network does, a bundle what it promised?"""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.errors import InvalidFile, UsageError


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE|BUNDLE")
@click.option("--model", help="Of FILE: run folder, architecture, or module:factory (your code).")
@click.option("--input-shape", help="Of a module of your own, e.g. 3x224x224.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Weights (.safetensors).")
@click.option("--data", help="Verify on its validation images.  [default: noise]")
@click.option("--images", default=16, show_default=True, type=click.IntRange(1))
@click.option("--target", help="Of BUNDLE: the device to measure on.  [default: the bundle's]")
@click.option("--no-latency", is_flag=True, help="Of BUNDLE: hashes and outputs only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def verify(
    file: Path, model: str | None, input_shape: str | None, checkpoint: Path | None,
    data: str | None, images: int, target: str | None, no_latency: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compare FILE (.onnx or .tflite, float32) with its network in PyTorch, image by image.

    A difference is exit status 4, with the first layer that differs. The file runs in a process of
    its own, which a damaged one may crash.

    Of a BUNDLE of `hwnas deploy`: check what it promises, hashes, outputs, accuracy, and the
    latency on its target. Exit 4 for a file or an output that is another one, 5 for a budget that
    is not kept.
    """
    if file.is_dir():
        if model is not None:
            raise UsageError(f"--model {model}: a bundle is compared with the outputs it holds")
        from hwnas.cli.verify.bundle import verify_bundle

        verify_bundle(file, target, no_latency, as_json)
        return
    if target is not None or no_latency:
        raise UsageError(f"--target and --no-latency are for a bundle's folder; {file} is none")
    if not file.is_file():
        raise InvalidFile(str(file), "no such file")
    if file.suffix not in (".onnx", ".tflite"):
        raise InvalidFile(str(file), "expected an .onnx or .tflite file")
    if model is None:
        raise UsageError(
            f"--model: what {file} was made of (a run, an architecture, module:factory)"
        )
    from hwnas.cli.export import parse_shape
    from hwnas.cli.tables import print_json
    from hwnas.export.verification.verify import compare
    from hwnas.networks.user_module import find_images, find_module

    named = find_module(model, parse_shape(input_shape), checkpoint)
    found = find_images(data, images, named.input_shape)
    format = "onnx" if file.suffix == ".onnx" else "tflite"
    parity = compare(file, format, named.module, found.images, found.labels)
    if as_json:
        print_json({"file": str(file), "verified_on": found.source, "parity": parity})
        return
    click.echo(
        f"{file}: error {parity.max_relative_error:.1e} of the largest output on {found.source}, "
        f"the same class in {parity.label_agreement:.0%}"
    )
