"""`hwnas verify BUNDLE`: does a bundle still do what it promised when it was handed over?"""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.tables import print_json


def verify_bundle(folder: Path, target: str | None, no_latency: bool, as_json: bool) -> None:
    """Check hashes, outputs, accuracy, and the latency on the target; prints what was found.

    Raises `ExportError` for another file or output, `BudgetError` for a budget that is not kept.
    """
    from hwnas.deploy.bundle import read_bundle
    from hwnas.deploy.device import verify_here
    from hwnas.devices.profile import find_profile
    from hwnas.devices.runner import Subject, file_sha256, open_runner, reference_file
    from hwnas.errors import BudgetError
    from hwnas.latency_models.storage.store import calibration

    manifest, found = read_bundle(folder), verify_here(folder)
    measured = None
    profile = find_profile(target or manifest.target) if not no_latency else None
    if profile is not None and profile.reachable:
        reference = file_sha256(reference_file(profile.runtime))
        with open_runner(profile) as runner:
            [measured] = runner.measure(
                [Subject(manifest.model, folder / manifest.model)],
                calibrated_reference_ms=calibration(runner.probe(), reference),
            )
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


def _latency_words(latency: dict[str, object] | None) -> str:
    if latency is None:
        return "latency: not measured"
    promised = latency["promised_ms"]
    return f"latency: {latency['median_ms']:.4g} ms {latency['kind']}" + (
        f", promised {promised:.4g} ms" if isinstance(promised, float) else ""
    )
