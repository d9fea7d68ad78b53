"""The tasks that rank 0 broadcasts to the other ranks (`hwnas.specialize.distributed.ranks`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hwnas.latency_models.cost import CostTable
from hwnas.search.plan import SearchPlan
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute
from hwnas.training.distributed import broadcast, ranks
from hwnas.training.job import TrainingJob


class SearchTask(msgspec.Struct, frozen=True, tag="search"):
    """Train a supernet, up to the end of a round."""

    spec: RunSpec
    costs: CostTable
    budget_ms: float
    arch_learning_rate: float
    plan: SearchPlan
    round: int
    compute: Compute
    """Device of rank 0; other ranks take the GPU of their own number."""


class TrainTask(msgspec.Struct, frozen=True, tag="train"):
    """Train one network."""

    job: TrainingJob


class End(msgspec.Struct, frozen=True, tag="end"):
    """Leave the process group at the end of the run."""


Task = SearchTask | TrainTask | End


def send(task: Task) -> None:
    """Let the other ranks, if there are any, begin a task."""
    if ranks() > 1:
        broadcast(msgspec.to_builtins(task))


class _Shared:
    """Whether all ranks work on a task; it stays true if an error ended this rank's part."""

    running = False


def left_in_task() -> bool:
    """Return whether this rank left a task by an error while the other ranks still work on it."""
    return _Shared.running


@contextmanager
def together(task: Task | None) -> Iterator[None]:
    """Send ``task`` to the other ranks; the body does this rank's part."""
    if task is not None:
        send(task)
    _Shared.running = task is not None
    yield
    _Shared.running = False
