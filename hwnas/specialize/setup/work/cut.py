"""The work of a run that cuts a trained network: its tuning, and the trainings of its members."""

from __future__ import annotations

from msgspec.structs import replace

from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.processes import cores
from hwnas.search.plan import SearchPlan
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import resolve_batch_size, step_image_bytes
from hwnas.specialize.setup.effort import EFFORTS, Effort, WorkPlan
from hwnas.specialize.setup.tuning import tuning_plan
from hwnas.specialize.setup.work.minutes import REST
from hwnas.specialize.setup.work.recipes import scaled_training
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute
from hwnas.training.plan import TrainingPlan, one_cycle_plan

FORWARD_SHARE = 1 / 3
"""Time of a forward pass, as a share of a training step's."""
SEARCH_FORWARDS = 10_000
"""Forward passes of one image by the whole network that a search takes about as long as:
statistics, increments and the members of its shortlist."""
MAX_EPOCHS_FACTOR = 10
"""Epochs at most, as a multiple of the effort's: more would only overfit."""


def cut_plan(
    spec: RunSpec, dataset: Dataset, space: ElasticSpace, console: Console, compute: Compute
) -> WorkPlan:
    """Return the plan of an effort, in batches that fit the memory of the device."""
    effort, images = EFFORTS[spec.effort], len(dataset.train.labels)
    augmentation = default_augmentation(dataset.input_shape, images, spec.flip)
    tuning, training = (
        tuning_plan(images, epochs, augmentation)
        for epochs in (effort.tuning_epochs, effort.cut_epochs)
    )
    processes = cores() if compute.kind == "cpu" else 1
    size = resolve_batch_size(
        None,
        tuning.batch_size,
        processes * step_image_bytes(space.original, compute),
        console.say,
        "",
        compute.device,
    )
    search = SearchPlan(
        batch_size=size, augmentation=augmentation, tuning=scaled_training(tuning, size)
    )
    return WorkPlan(effort, search, scaled_training(training, size))


def timed_cut_plan(
    plan: WorkPlan, image_ms: float, use: float, images: int, time_s: float, at_once: int
) -> WorkPlan:
    """Return the plan with as many epochs as take ``time_s``.

    A step of the whole network takes ``image_ms`` for an image, and one of a member ``use`` of
    that, beside the teacher's forward pass.
    """
    tuning, training, effort = plan.search.tuning, plan.training, plan.effort
    left_s = (1 - REST) * time_s - SEARCH_FORWARDS * FORWARD_SHARE * image_ms / 1e3
    each = trainings(effort) / at_once * (use + FORWARD_SHARE)
    planned = effort.tuning_epochs + effort.cut_epochs * each
    factor = left_s / (planned * images * image_ms / 1e3)
    factor = max(0.0, min(MAX_EPOCHS_FACTOR, factor))

    def longer(plan: TrainingPlan, epochs: int) -> TrainingPlan:
        return one_cycle_plan(plan, max(1, round(factor * epochs)))

    return replace(
        plan,
        search=replace(plan.search, tuning=longer(tuning, effort.tuning_epochs)),
        training=longer(training, effort.cut_epochs),
    )


def trainings(effort: Effort) -> int:
    """Return how many networks are trained after the tuning: members, and the whole network at the
    resolution that keeps the budget."""
    return effort.trained + 1


def cut_line(plan: WorkPlan, image_ms: float) -> str:
    """Return in one line how fast steps are, and what is planned."""
    count = trainings(plan.effort)
    return (
        f"{1e3 / image_ms:.3g} images/s measured; {plan.search.tuning.epochs} epochs of tuning, "
        f"then {count} networks trained for {plan.training.epochs} epochs"
    )
