"""What a training must have in common with the one that was begun in its folder.

A checkpoint is continued where there is one, so a training with other settings would begin with
weights that are not its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from hwnas.errors import InvalidFile, UsageError
from hwnas.files import read_json
from hwnas.networks.names import kind_of
from hwnas.networks.resolve import resolve_architecture, states_no_shape
from hwnas.recovery import is_run
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.job import TrainingJob
from hwnas.training.plan import TrainingPlan


def check_folder(spec: TrainSpec, folder: Path) -> None:
    """Raise `UsageError` for the folder of a run, and of a training with other options.

    Options that are not given are not compared; `check_job` compares what they become.
    """
    if is_run(folder):
        raise UsageError(f"{folder}: is the folder of a run; choose another --out")
    if (begun := _begun(folder)) is None:
        return
    plan, weights = begun.plan, "" if spec.pretrained else begun.initial
    given = "" if spec.weights is None else os.path.abspath(spec.weights)
    for option, before, now in (
        ("--data", begun.data, spec.data),
        ("--group-by", begun.group_by, spec.group_by),
        ("--seed", begun.seed, spec.seed),
        ("--weights", weights, given),
        ("--epochs", plan.epochs, spec.epochs or plan.epochs),
        ("--batch-size", plan.batch_size, spec.batch_size or plan.batch_size),
    ):
        if before != now:
            raise _other(folder, _words(option, before), _words(option, now))
    if spec.architecture and kind_of(spec.architecture) not in ("published", "timm"):
        _check_network(spec, folder, begun)


def check_job(job: TrainingJob, folder: Path) -> None:
    """Raise `UsageError` if the training that was begun in ``folder`` is another one.

    Device, threads and the parts of a batch may differ.
    """
    if (begun := _begun(folder)) is None:
        return
    if begun.architecture.digest != job.architecture.digest or begun.classes != job.classes:
        raise _other(folder, "another network", "this one")
    if _whole(begun.plan) != _whole(job.plan):
        raise _other(folder, "another plan", "this one")


def _begun(folder: Path) -> TrainingJob | None:
    """Return the training that was begun in ``folder``; ``None`` where there is none, or its file
    is damaged, which is repaired before the training goes on."""
    with suppress(InvalidFile):
        return read_json(folder / "job.json", TrainingJob)
    return None


def _check_network(spec: TrainSpec, folder: Path, begun: TrainingJob) -> None:
    if states_no_shape(spec.architecture):
        return
    if resolve_architecture(spec.architecture).digest != begun.architecture.digest:
        raise _other(folder, "another network", f"--architecture {spec.architecture}")


def _words(option: str, value: str | int) -> str:
    return f"no {option}" if value == "" else f"{option} {value}"


def _whole(plan: TrainingPlan) -> TrainingPlan:
    return replace(plan, accumulate=1)


def _other(folder: Path, before: str, now: str) -> UsageError:
    return UsageError(
        f"{folder}: the training there has {before}, not {now}; give what it was begun with, or "
        "choose another --out"
    )
