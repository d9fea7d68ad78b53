"""`hwnas deploy`: copy a model to a device as a bundle, and test it there."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.params import PATH, TARGET
from hwnas.cli.tables import print_json


@command("deploy", example="hwnas deploy runs/first --target host-cpu")
@click.argument("source", type=PATH, metavar="RUN|BUNDLE")
@option(
    "--target",
    group="Device",
    type=TARGET,
    default_help="the run's",
    help="Device to copy the bundle to.",
)
@option("--no-device", group="Device", is_flag=True, help="Only write the bundle.")
@option(
    "--out",
    group="Output",
    type=PATH,
    default_help="RUN/bundle",
    help="Folder of the bundle.",
)
@json_option
def deploy(
    source: Path, target: str | None, out: Path | None, no_device: bool, as_json: bool
) -> None:
    """Copy the model of a run, or a bundle written before, to a device and test it there.

    The bundle contains the model, labels, preprocessing, a script that runs it, sample images with
    expected outputs, and a manifest with hashes. On the device, outputs and accuracy are compared.
    """
    from hwnas.deploy import device
    from hwnas.deploy.bundle import read_bundle
    from hwnas.devices.profile import find_profile
    from hwnas.specialize.results.bundle import bundle_run

    bundle = source
    if not (source / "manifest.json").exists() or (source / "config.toml").exists():
        bundle = bundle_run(source, out or source / "bundle", target)
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
    agreement = deployment.agreement
    click.echo(
        f"{deployment.target}: {agreement.images} images, outputs differ by "
        f"{agreement.max_relative_error:.2g} of the largest output, accuracy "
        f"{agreement.accuracy:.1%} (on this machine {agreement.promised_accuracy:.1%})"
    )
    click.echo(
        f"on the device: {deployment.folder}\nbundle: {bundle}\nrun it: {deployment.command}"
    )
