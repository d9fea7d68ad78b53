"""What the other ranks of ``torchrun`` do: train together with rank 0, which decides and writes.

Rank 0 runs the command as if it were alone. Where it trains a supernet or a network it first tells
the others what, and all run the same loop on their parts of each batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import cast

import msgspec
import torch

from hwnas.data.datasets import load_dataset
from hwnas.devices.profile import find_profile
from hwnas.nn.auxiliary import trainee
from hwnas.nn.build import build
from hwnas.search.loop import run_search
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext, SteppedStrategy
from hwnas.spaces.int8 import in_float
from hwnas.specialize.distributed.tasks import End, SearchTask, Task, TrainTask, broken, tell
from hwnas.specialize.setup.resolve import load_images, load_space
from hwnas.training.distributed import RankLost, joined, rank, told
from hwnas.training.loader import as_data, seeded
from hwnas.training.loop import keep_freed_memory, train


@contextmanager
def leading() -> Iterator[bool]:
    """Join the other ranks. On rank 0 the body runs, told by ``True``, and the others end after it;
    on the others it gets ``False`` when all is done."""
    with joined():
        if rank() > 0:
            _serve()
            yield False
            return
        try:
            yield True
        finally:
            if not broken():  # else the closed connection ends the others in the midst of it
                with suppress(RankLost):
                    tell(End())


def _serve() -> None:
    while True:
        task = msgspec.convert(told(), Task)
        if isinstance(task, End):
            return
        if isinstance(task, SearchTask):
            _search(task)
        else:
            _train(task)


def _search(task: SearchTask) -> None:
    spec = task.spec
    dataset = load_images(spec, find_profile(spec.target))
    train_data, valid = (as_data(split, dataset) for split in (dataset.train, dataset.valid))
    context = SearchContext(
        space=in_float(load_space(spec.space, dataset, spec.precision, spec.width_mult)),
        costs=task.costs,
        budget_ms=task.budget_ms,
        generator=seeded(spec.seed, "paths"),
        arch_learning_rate=task.arch_learning_rate,
        share_weights=spec.share_weights,
        objective=spec.objective,
        options=parse_options(spec.strategy, spec.strategy_options),
    )
    torch.set_num_threads(spec.threads)
    keep_freed_memory()
    strategy = cast(SteppedStrategy, load_strategy(spec.strategy).begin(context))
    run_search(strategy, train_data, valid, task.plan, spec.seed, None, task.round)


def _train(task: TrainTask) -> None:
    dataset = load_dataset(task.data, input_shape=task.architecture.input_shape)
    torch.set_num_threads(task.threads)
    keep_freed_memory()
    network = build(task.architecture, task.plan.dropout)
    trained = trainee(network, task.architecture, task.plan.auxiliary)
    trained.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    train(trained, as_data(dataset.train, dataset), task.plan, task.seed)
