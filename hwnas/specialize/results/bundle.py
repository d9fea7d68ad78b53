"""Writes the bundle of a finished run."""

from __future__ import annotations

from pathlib import Path

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.data.datasets import load_dataset
from hwnas.deploy.bundle import write_bundle
from hwnas.devices.profile import find_profile
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import UsageError
from hwnas.report.report import Report
from hwnas.specialize.results.next_commands import result_folder
from hwnas.specialize.spec import read_spec


def bundle_run(run: Path, folder: Path, target: str | None = None) -> Path:
    """Write the bundle of the file that a run delivered for ``target``, by default the run's own.

    Raises `UsageError` for an unfinished run, a run of several targets or budgets, and a device
    that cannot run any of the files.
    """
    spec = read_spec(run)
    if not (run / "report.json").exists():
        raise UsageError(f"{run}: the run has not finished: it has no report yet")
    results = list(Report.read(run / "report.json").results)
    if len(results) > 1:
        folders = [str(result_folder(run, result)) for result in results if result.artifacts]
        raise UsageError(
            f"{run} is a run of several targets or budgets; name a single one: {', '.join(folders)}"
        )
    result = results[0]
    profile = find_profile(target or spec.target)
    runtime = RUNTIMES[profile.runtime]
    files = [run / row.path for row in result.artifacts if row.path.endswith(runtime.suffix)]
    if not files:
        raise UsageError(
            f"{run}: delivered no {runtime.suffix} file, the only kind that {profile.name} runs"
        )
    latency = result.latency if result.target == profile.name else None
    is_measured = latency is not None and latency.kind == "measured"
    input_shape = runtime.image_shape(open_model(str(files[0]), runtime.name).input_shape)
    write_bundle(
        folder,
        files[0],
        load_dataset(spec.data, input_shape=input_shape),
        target or spec.target,
        budget_ms=None if latency is None else result.budget_ms,
        median_ms=latency.median_ms if latency is not None and is_measured else None,
        precision=result.precision,
        pixels=spec.pixels,
    )
    return folder
