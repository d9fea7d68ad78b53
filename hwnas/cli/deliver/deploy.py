"""`hwnas deploy`: copy a model to a device as a bundle, and test it there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.deliver.options import input_option, labels_option
from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.options import file_shape_option, file_shapes
from hwnas.cli.framework.params import FILE, PATH, TARGET
from hwnas.cli.tables import print_json
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.deploy.device import Deployment


@command(
    "deploy",
    example=(
        "hwnas deploy runs/first --target host-cpu",
        "hwnas deploy segmentation.onnx --input imagenet --target ./phone.toml",
    ),
)
@click.argument("source", type=PATH, metavar="RUN|FILE|BUNDLE")
@option(
    "--target",
    group="Device",
    type=TARGET,
    default_help="the run's; this machine for a FILE",
    help="Device to copy the bundle to.",
)
@option("--no-device", group="Device", is_flag=True, help="Only write the bundle.")
@input_option
@labels_option
@file_shape_option("Files of other programs")
@option(
    "--samples",
    group="Files of other programs",
    type=FILE,
    metavar="FILE.npz",
    default_help="noise",
    help="Inputs to test with: an array for each input, by its name and in the order of its axes.",
)
@option(
    "--out",
    group="Output",
    type=PATH,
    default_help="RUN/bundle, or FILE-bundle",
    help="Folder of the bundle.",
)
@json_option
def deploy(
    source: Path,
    target: str | None,
    out: Path | None,
    no_device: bool,
    as_json: bool,
    **stated: Any,
) -> None:
    """Copy the model of a run, a model file, or a bundle written before, to a device and test it.

    The bundle contains the model, its inputs and outputs, a script that runs it, samples with
    expected outputs, and a manifest with hashes; that of a classifier its labels as well. FILE is
    an .onnx or .tflite file of any network. On the device, outputs and accuracy are compared.
    """
    from hwnas.deploy import device
    from hwnas.deploy.bundle import read_bundle
    from hwnas.devices.profile import find_profile

    bundle = _bundle(source, target, out, **stated)
    manifest = read_bundle(bundle)
    if no_device:
        if as_json:
            print_json({"bundle": str(bundle), "manifest": manifest})
        else:
            click.echo(f"bundle: {bundle}\nnext: hwnas deploy {bundle} --target {manifest.target}")
        return
    deployment = device.deploy(bundle, find_profile(target or manifest.target))
    if as_json:
        print_json({"bundle": str(bundle), "manifest": manifest, "deployed": deployment})
        return
    click.echo(_agreement(deployment))
    click.echo(
        f"on the device: {deployment.folder}\nbundle: {bundle}\nrun it: {deployment.command}"
    )


def _bundle(
    source: Path,
    target: str | None,
    out: Path | None,
    *,
    input_values: Any,
    labels: Path | None,
    samples: Path | None,
    input_shapes: tuple[tuple[str | None, str], ...],
) -> Path:
    """Return the folder of the bundle, which is written unless it is there."""
    from hwnas.recovery import is_run

    if not source.is_dir():
        from hwnas.deploy.find import find_model_file
        from hwnas.deploy.model_file import bundle_file

        find_model_file(str(source))  # says what is near, or what to do with a network
        folder = out or source.with_name(f"{source.name}-bundle")
        bundle_file(
            source,
            folder,
            target,
            input_values=input_values,
            labels=labels,
            shapes=file_shapes(input_shapes),
            samples=samples,
        )
        return folder
    if input_values or labels or samples or input_shapes:
        raise UsageError(
            f"--input, --labels, --input-shape and --samples need a model file; {source} is a "
            "folder"
        )
    if (source / "manifest.json").exists() and not is_run(source):
        return source
    if not is_run(source):
        raise UsageError(f"{source}: expected the folder of a run, a bundle or a model file")
    from hwnas.specialize.results.bundle import bundle_run

    return bundle_run(source, out or source / "bundle", target)


def _agreement(deployment: Deployment) -> str:
    agreement = deployment.agreement
    text = (
        f"{deployment.target}: {agreement.samples} samples, outputs differ by "
        f"{agreement.max_relative_error:.2g} of the largest output"
    )
    if agreement.accuracy is None:
        return text
    return (
        f"{text}, accuracy {agreement.accuracy:.1%} (on this machine "
        f"{agreement.promised_accuracy:.1%})"
    )
