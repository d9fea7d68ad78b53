"""The work of a run that cuts a trained network: its tuning, and the trainings of its members."""

from __future__ import annotations

from msgspec.structs import replace

from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.search.plan import SearchPlan
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import (
    in_parts,
    processes_for,
    resolve_batch_size,
    step_image_bytes,
)
from hwnas.specialize.setup.effort import EFFORTS, Effort, WorkPlan
from hwnas.specialize.setup.start.network import Start
from hwnas.specialize.setup.work.minutes import REST
from hwnas.specialize.setup.work.recipes import scaled_training
from hwnas.specialize.setup.work.tuning import EMA_STEPS, MAX_EPOCHS, MIN_EPOCHS, tuning_plan
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute
from hwnas.training.plan import TrainingPlan, ema_decay, one_cycle_plan

FORWARD_SHARE = 1 / 3
"""Time of a forward pass, as a share of the time of a training step."""
SEARCH_FORWARDS = 10_000
"""Duration of a search in forward passes of one image by the whole network: statistics, increments
and the members of its shortlist. Counted, not timed."""
MEMBER_SHARE = 0.5
"""Epochs of a member's training, as a share of the epochs of the tuning."""
MAX_TRAINED = 2
"""Most members that are trained: together with the whole network at a lower resolution, their
trainings take about as long as the tuning."""
SCREENED = 2
"""Members that are refitted and measured per member that is trained; their latencies differ little,
as all are predicted within a narrow window."""


def cut_plan(
    spec: RunSpec,
    dataset: Dataset,
    space: ElasticSpace,
    console: Console,
    compute: Compute,
    start: Start | None = None,
) -> WorkPlan:
    """Return the plan of an effort, in batches that fit the memory of the device."""
    labels = dataset.train.labels
    augmentation = default_augmentation(dataset.input_shape, len(labels), spec.flip)
    image = step_image_bytes(space.original, compute)
    tuning = in_parts(tuning_plan(labels, spec.effort, augmentation), image, compute.device)
    effort = EFFORTS[spec.effort]
    trained = min(MAX_TRAINED, effort.trained)
    whole_networks = 1 + len(spec.siblings)
    processes = processes_for(trained + whole_networks, compute)
    size = resolve_batch_size(
        None,
        tuning.batch_size,
        processes * image / tuning.accumulate,
        console.say,
        "",
        compute.device,
    )
    tuning = scaled_training(tuning, size)
    tuned = tuning.epochs
    members = member_plan(tuning, len(labels))
    if start is not None and start.knows_classes:
        tuning = replace(tuning, probe=False)
    if dataset.answers_of:  # the network itself is the teacher, and the only one
        tuning = replace(tuning, epochs=0)
        members = replace(members, probe=False, teacher_share=1.0, class_weights="none")
        members = longer(members, tuned, len(labels))
    search = SearchPlan(batch_size=size, augmentation=augmentation, tuning=tuning)
    effort = replace(effort, trained=trained, screened=SCREENED * trained + 1)
    return WorkPlan(effort, search, members)


def member_plan(tuning: TrainingPlan, images: int) -> TrainingPlan:
    """Return the plan for each network that is cut from a tuned one.

    Its classifier is fitted again, because a cut changes the features.
    """
    return longer(tuning, max(1, round(MEMBER_SHARE * tuning.epochs)), images)


def longer(plan: TrainingPlan, epochs: int, images: int) -> TrainingPlan:
    """Return a fine-tuning's plan for another number of epochs."""
    steps = epochs * (images // plan.batch_size)
    return replace(
        one_cycle_plan(plan, epochs),
        ema=ema_decay(steps) if steps > EMA_STEPS else 0.0,
        patience=max(MIN_EPOCHS, epochs // 3),
    )


def timed_cut_plan(
    plan: WorkPlan,
    image_ms: float,
    use: float,
    images: int,
    time_s: float,
    at_once: int,
    siblings: int = 0,
    budgets: int = 1,
) -> WorkPlan:
    """Return the plan with as many epochs as fit into ``time_s``, on average over ``budgets`` that
    share the tuned network.

    A step of the whole network takes ``image_ms`` per image; a step of a member takes the share
    ``use`` of that, beside the teacher's forward pass. ``siblings`` have as many epochs as the
    whole network and about the latency of a member, and no teacher.
    """
    tuning = plan.search.tuning
    left_s = (1 - REST) * time_s - SEARCH_FORWARDS * FORWARD_SHARE * image_ms / 1e3
    members = trainings(plan.effort) / at_once * (use + FORWARD_SHARE)
    epoch_s = images * image_ms / 1e3
    if tuning.epochs == 0:
        epochs = max(1, min(MAX_EPOCHS, round(left_s / (members * epoch_s))))
        return replace(plan, training=longer(plan.training, epochs, images))
    networks = 1 / budgets + MEMBER_SHARE * members + siblings / at_once * use
    epochs = left_s / (networks * epoch_s)
    tuning = longer(tuning, max(1, min(MAX_EPOCHS, round(epochs))), images)
    search = replace(plan.search, tuning=tuning)
    members = replace(member_plan(tuning, images), probe=plan.training.probe)
    return replace(plan, search=search, training=members)


def trainings(effort: Effort) -> int:
    """Return the number of networks that are trained after the tuning: members, and the whole
    network at the resolution that keeps the budget."""
    return effort.trained + 1


def cut_line(plan: WorkPlan, image_ms: float) -> str:
    """Return one line with the speed of the steps and the plan."""
    count = trainings(plan.effort)
    return (
        f"{1e3 / image_ms:.3g} images/s measured; {plan.search.tuning.epochs} epochs of tuning, "
        f"then {count} networks trained for {plan.training.epochs} epochs"
    )
