"""Whether there is enough time for a useful search, and the plan of a run without one.

The accuracies of a hardly trained supernet are useless: below a few hundred steps its networks are
near chance. Then random networks within the budget, chosen by the latency model alone, are as good,
and the time is better spent on training fewer of them longer.
"""

from __future__ import annotations

import math

from msgspec.structs import replace

from hwnas.search.plan import SearchPlan
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.work.minutes import MIN_TRAINING_STEPS, Epochs, with_epochs
from hwnas.specialize.setup.work.pace import Pace


def is_too_short(plan: WorkPlan, images: int) -> bool:
    """Return whether a supernet is trained and searched for fewer steps than its effort needs."""
    search, effort = plan.search, plan.effort
    if effort.is_papers or not search.trains_supernet:
        return False
    steps = max(1, search.images_shown(images) // search.batch_size)
    return (
        search.epochs(1) * steps < effort.min_warmup_steps + effort.min_search_steps
        or search.search_epochs * steps < effort.min_search_steps
    )


def without_search(plan: SearchPlan) -> SearchPlan:
    return replace(plan, warmup_epochs=0, search_epochs=0, first_arch_epoch=0, epoch_images=0)


def trained_longer(plan: WorkPlan, images: int) -> WorkPlan:
    """Return a plan without a search.

    Its time, and that of further networks, is used to train each network for at least
    `MIN_TRAINING_STEPS`.
    """
    effort, training = plan.effort, plan.training
    count = effort.trained + effort.baselines
    # an epoch of the search, with its architecture steps, takes about two of a training
    epochs = plan.search.warmup_epochs + 2 * plan.search.search_epochs + count * training.epochs
    steps = max(1, images // training.batch_size)
    least = min(effort.max_epochs, math.ceil(MIN_TRAINING_STEPS / steps))
    networks = max(1, min(count, epochs // least))
    each = max(least, min(effort.max_epochs, epochs // networks))
    baselines = max(0, networks - effort.trained)
    return WorkPlan(
        replace(effort, trained=networks - baselines, baselines=baselines),
        without_search(plan.search),
        with_epochs(training, Epochs(each), effort),
    )


def needed_s(plan: WorkPlan, pace: Pace) -> float:
    """Return the time of the fewest steps that a search needs."""
    effort, search = plan.effort, plan.search
    steps = effort.min_warmup_steps + effort.min_search_steps
    step_ms = steps * pace.weight_ms + effort.min_search_steps / search.weight_steps * pace.arch_ms
    return search.batch_size * step_ms / 1e3


def too_short_line(plan: WorkPlan, images: int, pace: Pace) -> str:
    """Return one line on why there is no search, and how long one would take."""
    effort = plan.effort
    steps = max(1, plan.search.images_shown(images) // plan.search.batch_size)
    minutes = math.ceil(needed_s(plan, pace) / 60)
    return (
        f"no search: {plan.search.warmup_epochs * steps} + {plan.search.search_epochs * steps} "
        f"steps of warm-up and search are planned, and below {effort.min_warmup_steps} + "
        f"{effort.min_search_steps}, which would take about {minutes} min here, a supernet can't "
        "tell networks apart; they are drawn at random within the budget and trained longer "
        "instead (a longer --effort or --minutes searches)"
    )
