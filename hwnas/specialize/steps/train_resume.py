"""What a training must have in common with the one that was begun in its folder.

A checkpoint is continued where there is one, so a training with other settings would begin with
weights that are not its own.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from hwnas.data.datasets import absolute_name
from hwnas.errors import InvalidFile, UsageError
from hwnas.files import read_json
from hwnas.networks.names import kind_of
from hwnas.networks.resolve import resolve_architecture, states_no_shape
from hwnas.recovery import is_run
from hwnas.specialize.steps.training_setup import INITIAL, TIMED_PLAN, TrainSpec
from hwnas.training.job import TrainingJob
from hwnas.training.plan import TrainingPlan

PLAN_OPTIONS = {
    "epochs": "--epochs",
    "batch_size": "--batch-size",
    "auxiliary": "--auxiliary",
    "drop_path": "--drop-path",
}
"""Options that set a field of a plan, by its name."""


def begun_training(spec: TrainSpec, folder: Path) -> TrainingJob | None:
    """Return the training that was begun in ``folder``; ``None`` if there is none.

    Options that are not given are not compared; `check_job` compares what they become. Raises
    `UsageError` for the folder of a run, and for a training with other options.
    """
    if is_run(folder):
        raise UsageError(f"{folder}: is the folder of a run; choose another --out")
    if (begun := _read(folder)) is None:
        return None
    _check_start(spec, folder, begun)
    for option, before, now in (
        ("--data", absolute_name(begun.data), absolute_name(spec.data)),
        ("--group-by", begun.group_by, spec.group_by),
        ("--seed", begun.seed, spec.seed),
    ):
        if before != now:
            raise _other(folder, _given(option, before), _given(option, now))
    timed, minutes = (folder / TIMED_PLAN).exists(), spec.minutes
    if timed and minutes is None:
        raise _other(folder, "with --minutes", "without")
    if not timed and minutes is not None:
        raise _other(folder, "without --minutes", f"with --minutes {minutes:g}")
    for field, now in (("epochs", spec.epochs), ("batch_size", spec.batch_size)):
        if now is not None and now != getattr(begun.plan, field):
            raise _other_plan(folder, begun.plan, field, now)
    return begun


def check_job(job: TrainingJob, begun: TrainingJob, folder: Path) -> None:
    """Raise `UsageError` if the training that was begun in ``folder`` is another one.

    Device, threads and the parts of a batch may differ.
    """
    before, now = ("x".join(map(str, each.architecture.input_shape)) for each in (begun, job))
    if before != now:
        raise _other(folder, f"on images of {before}", f"on those of {now}")
    if begun.architecture.digest != job.architecture.digest:
        raise _other(folder, "with another network", "with this one")
    if begun.classes != job.classes:
        raise _other(folder, "with images of other classes", "with these")
    for field in TrainingPlan.__struct_fields__:
        now = getattr(job.plan, field)
        if field != "accumulate" and now != getattr(begun.plan, field):
            raise _other_plan(folder, begun.plan, field, now)


def _read(folder: Path) -> TrainingJob | None:
    """Return the training of a folder; ``None`` also if its file is damaged, which is repaired
    before the training goes on."""
    with suppress(InvalidFile):
        return read_json(folder / "job.json", TrainingJob)
    return None


def _check_start(spec: TrainSpec, folder: Path, begun: TrainingJob) -> None:
    """Raise `UsageError` if the training began with another network or other weights."""
    tuned = begun.initial == INITIAL
    if tuned != bool(spec.pretrained):
        before = "with --from" if tuned else "without --from"
        raise _other(folder, before, _given("--from", spec.pretrained))
    weights = "" if spec.weights is None else os.path.abspath(spec.weights)
    if not tuned and begun.initial != weights:
        raise _other(folder, _given("--weights", begun.initial), _given("--weights", weights))
    name = spec.architecture
    if not name or kind_of(name) in ("published", "timm") or states_no_shape(name):
        return  # the data set decides the shape
    if resolve_architecture(name).digest != begun.architecture.digest:
        raise _other(folder, "with another network", f"with --architecture {name}")


def _other_plan(folder: Path, plan: TrainingPlan, field: str, now: object) -> UsageError:
    if field not in PLAN_OPTIONS:
        return _other(folder, f"with another {field.replace('_', ' ')}", "with this one")
    option = PLAN_OPTIONS[field]
    words = _given(option, getattr(plan, field)), _given(option, now)
    if field != "epochs":
        return _other(folder, *words)
    advice = (
        "its learning rate falls to zero within them, so their number is fixed; to train longer, "
        f"let it end, then train its network on: --from {folder}, with another --out"
    )
    return _other(folder, *words, advice)


def _given(option: str, value: object) -> str:
    return f"without {option}" if value == "" else f"with {option} {value}"


def _other(
    folder: Path,
    before: str,
    now: str,
    advice: str = "give what it was begun with, or choose another --out",
) -> UsageError:
    return UsageError(f"{folder}: the training there was begun {before}, not {now}; {advice}")
