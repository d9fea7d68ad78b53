"""`hwnas deploy`: hand a model over as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.tables import print_json

if TYPE_CHECKING:
    from hwnas.architecture.runtimes import RuntimeName


@click.command("deploy")
@click.argument("source", type=click.Path(path_type=Path), metavar="RUN")
@click.option("--target", help="Device name or profile; default: that of the run.")
@click.option("--out", type=click.Path(path_type=Path), help="Bundle folder; default RUN/bundle.")
@click.option("--no-device", is_flag=True, help="Make the bundle only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def deploy(
    source: Path, target: str | None, out: Path | None, no_device: bool, as_json: bool
) -> None:
    """Bring the model of RUN (a run's folder, or a bundle) to a device and try it there.

    The bundle holds model, labels, preprocessing, a script that runs it, sample images with
    expected outputs, and a manifest with hashes. On the device outputs and accuracy are compared.
    """
    from hwnas.deploy.bundle import read_bundle
    from hwnas.deploy.device import deploy as bring
    from hwnas.devices.profile import find_profile

    folder = source
    if not (source / "manifest.json").exists() or (source / "config.toml").exists():
        folder = bundle_of(source, out or source / "bundle", target)
    manifest = read_bundle(folder)
    if no_device:
        if as_json:
            print_json({"bundle": str(folder), "manifest": manifest})
        else:
            click.echo(f"bundle: {folder}\nnext: hwnas deploy {folder} --target {manifest.target}")
        return
    done = bring(folder, find_profile(target or manifest.target))
    if as_json:
        print_json({"bundle": str(folder), "manifest": manifest, "deployed": done})
        return
    found = done.agreement
    click.echo(
        f"{done.target}: {found.images} images, outputs differ by {found.max_relative_error:.2g} "
        f"of the largest, accuracy {found.accuracy:.1%} (here {found.promised_accuracy:.1%})"
    )
    click.echo(f"there: {done.folder}\nbundle: {folder}\nrun it: {done.command}")


def bundle_of(run: Path, folder: Path, target: str | None) -> Path:
    """Write the bundle of a run's delivered file for ``target`` (default: the run's)."""
    import msgspec

    from hwnas.architecture.runtimes import RUNTIMES
    from hwnas.data.datasets import load_dataset
    from hwnas.deploy.bundle import write_bundle
    from hwnas.devices.profile import find_profile
    from hwnas.errors import InvalidFile, UsageError
    from hwnas.report.report import Report
    from hwnas.specialize.results.next_commands import result_folder
    from hwnas.specialize.spec import read_spec

    spec = read_spec(run)
    path = run / "report.json"
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError:
        raise UsageError(f"{run}: the run has no report yet: it has not ended") from None
    except msgspec.DecodeError as error:
        raise InvalidFile(str(path), str(error)) from None
    results = list(report.results)
    if len(results) > 1:
        folders = [str(result_folder(run, one)) for one in results if one.artifacts]
        raise UsageError(
            f"{run} is a run of several targets or budgets; name that of one: {', '.join(folders)}"
        )
    result = results[0]
    profile = find_profile(target or spec.target)
    suffix = RUNTIMES[profile.runtime].suffix
    files = [run / one.path for one in result.artifacts if one.path.endswith(suffix)]
    if not files:
        raise UsageError(f"{run}: no {suffix} file was delivered, {profile.name} takes no other")
    same = result.target == profile.name and result.latency is not None
    measured = same and result.latency is not None and result.latency.kind == "measured"
    data = load_dataset(spec.data, input_shape=_shape(files[0], profile.runtime))
    write_bundle(
        folder, files[0], profile.runtime, data, target or spec.target,
        budget_ms=result.budget_ms if same else None,
        median_ms=result.latency.median_ms if measured and result.latency else None,
        precision=result.precision,
        pixels=spec.pixels,
    )  # fmt: skip
    return folder


def _shape(model: Path, runtime: RuntimeName) -> tuple[int, int, int]:
    """Return channels, height and width of a file's input."""
    from hwnas.architecture.runtimes import RUNTIMES
    from hwnas.devices.worker.runtimes.open import open_model

    return RUNTIMES[runtime].image_shape(open_model(str(model), runtime).input_shape)
