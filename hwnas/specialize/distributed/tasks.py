"""What rank 0 tells the other ranks to do with it (`hwnas.specialize.distributed.ranks`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.latency_models.cost import CostTable
from hwnas.search.plan import SearchPlan
from hwnas.specialize.spec import RunSpec
from hwnas.training.distributed import ranks, told
from hwnas.training.loop import TrainingPlan


class SearchTask(msgspec.Struct, frozen=True, tag="search"):
    """A supernet to train, up to the end of a round."""

    spec: RunSpec
    costs: CostTable
    budget_ms: float
    arch_learning_rate: float
    plan: SearchPlan
    round: int


class TrainTask(msgspec.Struct, frozen=True, tag="train"):
    """A network to train from scratch."""

    architecture: Architecture
    data: str
    plan: TrainingPlan
    seed: int
    threads: int


class End(msgspec.Struct, frozen=True, tag="end"):
    """Nothing more is to be done."""


Task = SearchTask | TrainTask | End


def tell(task: Task) -> None:
    """Let the other ranks, if there are any, begin the same work."""
    if ranks() > 1:
        told(msgspec.to_builtins(task))


class _Shared:
    """Whether all ranks are in a task: it stays so where this one's part ended in an error."""

    running = False


def broken() -> bool:
    """Whether this rank left a task that the others are still in, and listen to nothing else."""
    return _Shared.running


@contextmanager
def together(task: Task | None) -> Iterator[None]:
    """Tell the other ranks of ``task``, and do this rank's part of it in the body."""
    if task is not None:
        tell(task)
    _Shared.running = task is not None
    yield
    _Shared.running = False
