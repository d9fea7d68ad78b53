"""Writes the bundle of a finished run."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.deploy.bundle import write_bundle
from hwnas.deploy.samples import data_samples, image_input
from hwnas.devices.profile import find_profile
from hwnas.devices.worker.model import input_shapes
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import UsageError
from hwnas.files import read_json
from hwnas.recovery import unfinished
from hwnas.report.report import Report
from hwnas.specialize.results.next_commands import result_folder
from hwnas.specialize.spec import RunSpec, read_spec


class _Input(msgspec.Struct, frozen=True):
    mean: tuple[float, ...]
    std: tuple[float, ...]


class _File(msgspec.Struct, frozen=True):
    input: _Input


class _Files(msgspec.Struct, frozen=True):
    """The part of a run's manifest that states the preprocessing of its files."""

    files: tuple[_File, ...]


def bundle_run(run: Path, folder: Path, target: str | None = None) -> Path:
    """Write the bundle of the file that a run delivered for ``target``, by default the run's own.

    Raises `UsageError` for an unfinished run, a run of several targets or budgets, and a device
    that cannot run any of the files.
    """
    spec = read_spec(run)
    if not (run / "report.json").exists():
        raise unfinished(run)
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
    opened = open_model(str(files[0]), runtime.name)
    (stored,) = input_shapes(str(files[0]), opened.inputs)
    input_shape = runtime.image_shape(stored)
    data = _dataset(spec, input_shape, run / "export" / "manifest.json")
    write_bundle(
        folder,
        files[0],
        data_samples(data),
        target or spec.target,
        image=image_input(data, spec.pixels),
        labels=data.classes,
        budget_ms=None if latency is None else result.budget_ms,
        median_ms=latency.median_ms if latency is not None and is_measured else None,
        precision=result.precision,
    )
    return folder


def _dataset(spec: RunSpec, input_shape: tuple[int, int, int], manifest: Path) -> Dataset:
    """Load the data set with the normalisation of a run's files, which may be that of a trained
    network."""
    taken = read_json(manifest, _Files).files[0].input
    options = ReadingOptions(spec.skip_broken, group_by=spec.group_by)
    dataset = load_dataset(spec.data, input_shape=input_shape, options=options)
    return dataset.normalised_by(taken.mean, taken.std)
