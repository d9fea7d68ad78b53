"""`hwnas verify`: compare a model file with its network, or a bundle with its manifest."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.deliver.agreement import agreement_text, output_lines
from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.options import (
    checkpoint_option,
    input_shape_option,
    named_shapes,
    wait_idle_in,
)
from hwnas.cli.framework.params import DATA, NETWORK, PATH, TARGET
from hwnas.cli.tables import print_json
from hwnas.errors import UsageError


@command(
    "verify",
    example=(
        "hwnas verify model.onnx --model runs/first",
        "hwnas verify runs/first/bundle --target host-cpu",
    ),
)
@click.argument("file", type=PATH, metavar="FILE|BUNDLE")
@option(
    "--model",
    group="Model file",
    type=NETWORK,
    help="Network that FILE was compiled from, as `hwnas export` takes it.",
)
@input_shape_option("Model file")
@checkpoint_option("Model file")
@option(
    "--data",
    group="Model file",
    type=DATA,
    default_help="noise",
    help="Data set whose validation images FILE is verified on.",
)
@option(
    "--images",
    group="Model file",
    type=click.IntRange(1),
    default=16,
    help="Number of images to verify on.",
)
@option(
    "--target",
    group="Bundle",
    type=TARGET,
    default_help="the bundle's",
    help="Device to measure the latency on.",
)
@wait_idle_in("Bundle")
@option("--no-latency", group="Bundle", is_flag=True, help="Check hashes and outputs only.")
@json_option
def verify(
    file: Path,
    model: str | None,
    input_shapes: tuple[tuple[str | None, str], ...],
    checkpoint: Path | None,
    data: str | None,
    images: int,
    target: str | None,
    wait_idle_s: float,
    no_latency: bool,
    as_json: bool,
) -> None:
    """Verify FILE (.onnx or .tflite) against its network in PyTorch, input by input.

    A difference is exit code 4 and names the first layer that differs. An int8 file is judged by
    the classes that it predicts and the noise in its outputs. The file runs in a child process,
    because a damaged file may crash its runtime.

    For a BUNDLE of `hwnas deploy`, check its hashes, outputs and accuracy, and the latency on its
    target. Exit code 4: a file or an output has changed. Exit code 5: the budget is exceeded.
    """
    if file.is_dir():
        if model is not None:
            raise UsageError(f"--model {model}: a bundle is compared with the outputs it contains")
        _verify_bundle(file, target, no_latency, wait_idle_s, as_json)
        return
    if target is not None or no_latency or wait_idle_s:
        raise UsageError(
            f"--target, --wait-idle and --no-latency need a bundle folder; {file} is none"
        )
    if not file.is_file():
        from hwnas.deploy.find import find_model_file

        find_model_file(str(file))  # says what is near, or what to do with a network
    from hwnas.export.recipe import format_of

    format_of(file)
    if model is None:
        raise UsageError(
            f"--model is missing: the network that {file} was compiled from (a run folder, a "
            "name, a file, or module:factory)"
        )
    from hwnas.export.metadata.input import takes_pixels
    from hwnas.export.verify_file import verify_file
    from hwnas.networks.user_module import load_network
    from hwnas.networks.verification_data import verification_data

    network = load_network(model, named_shapes(input_shapes), checkpoint)
    verification, source, _ = verification_data(
        data, network, count=images, pixels=takes_pixels(file)
    )
    parity = verify_file(file, network.module, verification, network.interface)
    if as_json:
        print_json({"file": str(file), "verified_on": source, "parity": parity})
        return
    click.echo(f"{file}: {agreement_text(parity, source)}")
    for line in output_lines(parity):
        click.echo(f"  {line}")


def _verify_bundle(
    folder: Path, target: str | None, no_latency: bool, wait_idle_s: float, as_json: bool
) -> None:
    from hwnas.deploy.verify import check_budget, verify_bundle

    result = verify_bundle(folder, target, not no_latency, wait_idle_s)
    latency = result.latency
    if as_json:
        print_json(result)
    else:
        agreement = result.agreement
        rate = "" if agreement.accuracy is None else f", accuracy {agreement.accuracy:.1%}"
        click.echo(
            f"outputs of {agreement.samples} samples within {agreement.max_relative_error:.2g} of "
            f"the largest output{rate}; all files have their SHA-256"
        )
        if latency is None:
            click.echo("latency: not measured")
        else:
            promised = latency.promised_ms
            note = "" if promised is None else f", promised {promised:.4g} ms"
            click.echo(f"latency: {latency.median_ms:.4g} ms {latency.kind}{note}")
    check_budget(result)
