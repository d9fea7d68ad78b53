"""The other ranks of ``torchrun``: they train together with rank 0, which decides and writes.

Rank 0 runs the command as if it were alone. Before it trains a supernet or a network it broadcasts
the task, and all ranks run the same loop on their shards of each batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import msgspec

from hwnas.devices.profile import find_profile
from hwnas.profiling.setup import load_images, load_space
from hwnas.search.loop import run_search
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext, SteppedStrategy
from hwnas.spaces.int8 import in_float
from hwnas.specialize.distributed.tasks import End, SearchTask, Task, left_in_task, send
from hwnas.training.compute import resolve_compute
from hwnas.training.distributed import (
    RankLost,
    broadcast,
    process_group,
    rank,
    started_ranks,
)
from hwnas.training.images.loader import as_data
from hwnas.training.job import train_with_rank_0
from hwnas.training.seeds import seeded


@contextmanager
def leading(device: str = "cpu") -> Iterator[bool]:
    """Join the other ranks: yield True on rank 0, which gives them tasks until the body ends.

    The other ranks work on these tasks first, and yield False when there are no more. ``device`` is
    one as `resolve_compute` takes it.
    """
    own = resolve_compute(device).device if started_ranks() > 1 else device
    with process_group(own):
        if rank() > 0:
            _work()
            yield False
            return
        try:
            yield True
        finally:
            if not left_in_task():  # else the closed connection ends the other ranks
                with suppress(RankLost):
                    send(End())


def _work() -> None:
    while True:
        task = msgspec.convert(broadcast(), Task)
        if isinstance(task, End):
            return
        if isinstance(task, SearchTask):
            _search(task)
        else:
            train_with_rank_0(task.job)


def _search(task: SearchTask) -> None:
    spec = task.spec
    dataset = load_images(spec.data, find_profile(spec.target), spec.resolution)
    compute = task.compute.of_rank()
    compute.start()
    train_data, valid = (
        as_data(split, dataset, compute) for split in (dataset.train, dataset.valid)
    )
    context = SearchContext(
        space=in_float(load_space(spec.space, dataset, spec.precision, spec.width_mult)),
        costs=task.costs,
        budget_ms=task.budget_ms,
        generator=seeded(spec.seed, "paths"),
        arch_learning_rate=task.arch_learning_rate,
        share_weights=spec.share_weights,
        objective=spec.objective,
        options=parse_options(spec.strategy, spec.strategy_options),
        compute=compute,
        accumulate=task.plan.accumulate,
    )
    strategy = cast(SteppedStrategy, load_strategy(spec.strategy).begin(context))
    run_search(strategy, train_data, valid, task.plan, spec.seed, None, task.round)
