"""`hwnas deploy` and `hwnas bundle`: hand a model over as a bundle, and check one later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.tables import print_json

if TYPE_CHECKING:
    from hwnas.devices.profile import Runtime


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
    from hwnas.devices.profile import find_profile
    from hwnas.pipeline.bundle import read_bundle
    from hwnas.pipeline.deploying import deploy as bring

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


@click.command("bundle")
@click.argument("folder", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--target", help="Device to measure on; default: that of the bundle.")
@click.option("--no-latency", is_flag=True, help="Hashes and outputs only.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def bundle(folder: Path, target: str | None, no_latency: bool, as_json: bool) -> None:
    """Check what BUNDLE promises: hashes, outputs, accuracy, and the latency on its target.

    Exit 4 for a file or an output that is another one, 5 for a budget that is not kept.
    """
    from hwnas.devices.profile import find_profile
    from hwnas.devices.runner import Subject, file_sha256, open_runner, reference_file
    from hwnas.errors import BudgetError
    from hwnas.latency_models.store import calibration
    from hwnas.pipeline.bundle import read_bundle
    from hwnas.pipeline.deploying import verify_here

    manifest, found = read_bundle(folder), verify_here(folder)
    measured = None
    profile = find_profile(target or manifest.target) if not no_latency else None
    if profile is not None and profile.reachable:
        runner = open_runner(profile)
        try:
            reference = file_sha256(reference_file(profile.runtime))
            [measured] = runner.measure(
                [Subject(manifest.model, folder / manifest.model)],
                calibrated_reference_ms=calibration(runner.probe(), reference),
            )
        finally:
            runner.close()
    latency = (
        None
        if measured is None
        else {
            "kind": measured.kind,
            "median_ms": measured.median_ms,
            "ci95_ms": measured.ci95_ms,
            "promised_ms": manifest.median_ms,
            "budget_ms": manifest.budget_ms,
        }
    )
    if as_json:
        print_json({"bundle": str(folder), "agreement": found, "latency": latency})
    else:
        click.echo(
            f"{len(manifest.files)} files as handed over; {found.images} outputs within "
            f"{found.max_relative_error:.2g}, accuracy {found.accuracy:.1%}"
        )
        click.echo(_latency_words(latency))
    budget_ms = manifest.budget_ms
    if (
        measured is not None
        and budget_ms is not None
        and measured.kind != "emulated"
        and measured.ci95_ms[0] > budget_ms
    ):
        raise BudgetError(
            f"{measured.median_ms:.4g} ms {measured.kind}, the budget is {budget_ms:.4g}"
        )


def bundle_of(run: Path, folder: Path, target: str | None) -> Path:
    """Write the bundle of a run's delivered file for ``target`` (default: the run's)."""
    import msgspec

    from hwnas.datasets import load_dataset
    from hwnas.devices.profile import find_profile
    from hwnas.devices.runner import SUFFIXES
    from hwnas.errors import InvalidFile, UsageError
    from hwnas.pipeline.bundle import write_bundle
    from hwnas.pipeline.run import read_config
    from hwnas.report.report import Report

    config = read_config(run)
    path = run / "report.json"
    try:
        report = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError:
        raise UsageError(f"{run}: the run has no report yet: it has not ended") from None
    except msgspec.DecodeError as error:
        raise InvalidFile(str(path), str(error)) from None
    result = report.results[0]
    profile = find_profile(target or config.target)
    suffix = SUFFIXES[profile.runtime]
    files = [run / one.path for one in result.artifacts if one.path.endswith(suffix)]
    if not files:
        raise UsageError(f"{run}: no {suffix} file was delivered, {profile.name} takes no other")
    same = result.target == profile.name and result.latency is not None
    measured = same and result.latency is not None and result.latency.kind == "measured"
    data = load_dataset(config.data, input_shape=_shape(files[0], profile.runtime))
    write_bundle(
        folder, files[0], profile.runtime, data, target or config.target,
        budget_ms=result.budget_ms if same else None,
        median_ms=result.latency.median_ms if measured and result.latency else None,
        precision=result.precision,
        pixels=config.pixels,
    )  # fmt: skip
    return folder


def _shape(model: Path, runtime: Runtime) -> tuple[int, int, int]:
    """Return channels, height and width of a file's input."""
    from hwnas.devices.worker_model import open_model

    _, *axes = open_model(str(model), runtime).input_shape
    a, b, c = axes
    return (c, a, b) if runtime == "litert" else (a, b, c)


def _latency_words(latency: dict[str, object] | None) -> str:
    if latency is None:
        return "latency: not measured"
    promised = latency["promised_ms"]
    return f"latency: {latency['median_ms']:.4g} ms {latency['kind']}" + (
        f", promised {promised:.4g} ms" if isinstance(promised, float) else ""
    )
