"""The work of a run that cuts a trained network: its tuning, and the trainings of its members."""

from __future__ import annotations

from typing import NamedTuple

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
from hwnas.specialize.setup.work.minutes import FORWARD_SHARE, REST, Epochs, training_s
from hwnas.specialize.setup.work.pace import Setting
from hwnas.specialize.setup.work.recipes import scaled_training
from hwnas.specialize.setup.work.tuning import EMA_STEPS, MAX_EPOCHS, MIN_EPOCHS, tuning_plan
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute
from hwnas.training.plan import TrainingPlan, ema_decay, one_cycle_plan

SEARCH_FORWARDS = 10_000
"""Duration of a search in forward passes of one image by the whole network: statistics, increments
and the members of its shortlist. Counted, not timed."""
SMALLEST_PART = 1e-3
"""Share of a pass over the images up to which a plan fits its time."""
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
        members = longer(members, Epochs(tuned), len(labels))
    search = SearchPlan(batch_size=size, augmentation=augmentation, tuning=tuning)
    return WorkPlan(_with_members(effort, trained), search, members)


def member_plan(tuning: TrainingPlan, images: int) -> TrainingPlan:
    """Return the plan for each network that is cut from a tuned one.

    Its classifier is fitted again, because a cut changes the features.
    """
    return longer(tuning, Epochs(max(1, round(MEMBER_SHARE * tuning.epochs))), images)


def longer(plan: TrainingPlan, planned: Epochs, images: int) -> TrainingPlan:
    """Return a fine-tuning's plan for other epochs."""
    epochs, plan = planned.number, replace(plan, epoch_images=planned.images)
    steps = epochs * (plan.images_shown(images) // plan.batch_size)
    return replace(
        one_cycle_plan(plan, epochs),
        ema=ema_decay(steps) if steps > EMA_STEPS else 0.0,
        patience=max(MIN_EPOCHS, epochs // 3),
    )


class CutWork(NamedTuple):
    """What the time of a cut depends on beside its plan."""

    image_ms: float
    """A step of the whole network for an image."""
    use: float
    """A member's share of that, beside the teacher's forward pass."""
    images: int
    valid_images: int
    at_once: int
    """Networks that are trained at once."""
    siblings: int = 0
    """Networks with as many epochs as the whole one and about the latency of a member, but no
    teacher."""
    budgets: int = 1
    """Those that share the tuned network."""

    @classmethod
    def of(cls, setting: Setting, image_ms: float, at_once: int) -> CutWork:
        """Return the work of a run whose budget is a member's latency."""
        data = setting.dataset
        return cls(
            image_ms,
            setting.budget_ms / setting.costs.largest_ms,
            len(data.train.labels),
            len(data.valid.labels),
            at_once,
            len(setting.spec.siblings),
            setting.budgets,
        )

    def seconds(self, plan: WorkPlan) -> float:
        """Return the time of the tuning, the search and the members' trainings, on the average of
        the budgets."""
        tuning, members, image_ms = plan.search.tuning, plan.training, self.image_ms
        sizes = self.images, self.valid_images
        tuned_s = training_s(tuning, image_ms, *sizes) if tuning.epochs else 0.0
        taught = FORWARD_SHARE * members.epochs * members.images_shown(self.images)
        member_s = training_s(members, self.use * image_ms, *sizes) + taught * image_ms / 1e3
        search_s = SEARCH_FORWARDS * FORWARD_SHARE * image_ms / 1e3
        beside_s = trainings(plan.effort) * member_s + self.siblings * self.use * tuned_s
        return tuned_s / self.budgets + search_s + beside_s / self.at_once


def timed_cut_plan(plan: WorkPlan, work: CutWork, time_s: float) -> WorkPlan:
    """Return the plan with as many epochs as take ``time_s`` (`CutWork.seconds`); in little time
    with a single member."""

    def planned(passes: float) -> WorkPlan:
        tuning, members = plan.search.tuning, MEMBER_SHARE * passes
        if tuning.epochs == 0:
            return replace(plan, training=_shown(plan.training, passes, work.images))
        tuning = _shown(tuning, passes, work.images)
        trained = replace(_shown(tuning, members, work.images), probe=plan.training.probe)
        return replace(plan, search=replace(plan.search, tuning=tuning), training=trained)

    left_s = (1 - REST) * time_s
    if plan.effort.trained > 1 and work.seconds(planned(0.0)) > left_s:
        plan = replace(plan, effort=_with_members(plan.effort, 1))
    shortest, longest = 0.0, float(MAX_EPOCHS)
    while longest - shortest > SMALLEST_PART:
        passes = (shortest + longest) / 2
        if work.seconds(planned(passes)) > left_s:
            longest = passes
        else:
            shortest = passes
    return planned(longest if longest == MAX_EPOCHS else shortest)


def _shown(plan: TrainingPlan, passes: float, images: int) -> TrainingPlan:
    """Return a fine-tuning's plan that shows the images about ``passes`` times."""
    return longer(plan, Epochs.of(passes, images, plan.batch_size), images)


def _with_members(effort: Effort, trained: int) -> Effort:
    """Return an effort that trains so many members; the whole network is screened, too."""
    return replace(effort, trained=trained, screened=SCREENED * trained + 1)


def trainings(effort: Effort) -> int:
    """Return the number of networks that are trained after the tuning: members, and the whole
    network at the resolution that keeps the budget."""
    return effort.trained + 1


def cut_line(plan: WorkPlan, image_ms: float) -> str:
    """Return one line with the speed of the steps and the plan."""
    count = trainings(plan.effort)
    return (
        f"{1e3 / image_ms:.3g} images/s measured; {epochs_text(plan.search.tuning)} of tuning, "
        f"then {count} networks trained for {epochs_text(plan.training)}"
    )


def epochs_text(plan: TrainingPlan) -> str:
    """Return the epochs in words."""
    count = plan.epochs
    return f"{count} epoch{'s' * (count != 1)}{of_images(plan.epoch_images)}"


def of_images(count: int) -> str:
    """Return how many images epochs have that are shorter than a pass over all."""
    return f" ({count:,} images each)" if count else ""
