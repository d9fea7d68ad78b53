"""The loop of strategies that alternate steps: warm-up, search, log, checkpoint, resume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import msgspec
from torch import Tensor

from hwnas.errors import HwnasError, UsageError
from hwnas.search.log import LogLine, OnLine, StepLog, append_log, truncate_log
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import ParallelStrategy, SteppedStrategy
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.distributed import (
    average,
    broadcast,
    broadcast_state,
    ranks,
    shard,
    synced_norms,
)
from hwnas.training.loader import Batch, Data, batches, derived_seed


def run_search(
    strategy: SteppedStrategy,
    train: Data,
    valid: Data,
    plan: SearchPlan,
    seed: int,
    files: SearchFiles | None,
    rounds: int = 1,
    on_line: OnLine | None = None,
) -> None:
    """Run warm-up and search, and half a search again for each further round.

    Epochs that are in ``files`` are not repeated. With several ranks (`hwnas.training.distributed`)
    only rank 0 has files, the others get ``None``; all end with the same state. The randomness of
    an epoch depends only on ``seed`` and its number. Raises `HwnasError` if the loss is not finite;
    the last checkpoint stays.
    """
    done = 0 if files is None else _resume(strategy, files)
    if ranks() > 1:
        done = broadcast(done)
        strategy.load_state_dict(broadcast_state(strategy.state_dict()))
    for epoch in range(done, plan.epochs(rounds)):
        strategy.generator.manual_seed(derived_seed(seed, "paths", epoch))
        strategy.begin_epoch(epoch < plan.warmup_epochs)
        with _norms(strategy):
            lines = list(_epoch(strategy, train, valid, plan, seed, epoch, on_line))
        state = strategy.state_dict()
        _check_finite(state, epoch)
        if files is None:
            continue
        append_log(files.log, lines)
        notes = {"epochs": str(epoch + 1)}
        if epoch + 1 == plan.warmup_epochs:
            save_checkpoint(files.warm_up, state, notes)
        save_checkpoint(files.checkpoint, state, notes)


def _norms(strategy: SteppedStrategy) -> AbstractContextManager[None]:
    """Synchronise the batch norms of several ranks."""
    if ranks() == 1:
        return nullcontext()
    if not strategy.traits.parallel:
        raise UsageError(
            f"{type(strategy).__name__} searches in one process: start it without torchrun"
        )
    return synced_norms(cast(ParallelStrategy, strategy).supernet)


def _epoch(
    strategy: SteppedStrategy,
    train: Data,
    valid: Data,
    plan: SearchPlan,
    seed: int,
    epoch: int,
    on_line: OnLine | None,
) -> Iterator[LogLine]:
    """Run an epoch; yield a line for the first of every ``plan.weight_steps`` weight steps and, in
    the search, for the architecture step after the last of them."""
    warm_up = epoch < plan.warmup_epochs
    phase = "warm-up" if warm_up else "search"
    steps = max(1, len(train.images) // plan.batch_size)
    generator = strategy.generator
    valid_batches = _endless(valid, plan, generator)
    for number, batch in enumerate(batches(train, plan.batch_size, generator, plan.flip)):
        step = epoch * steps + number
        rate = _learning_rate(plan, step, steps)
        log = _averaged(strategy.weight_step(shard(*batch), rate), phase, step)
        if not warm_up and (number + 1) % plan.weight_steps == 0:
            arch_log = strategy.architecture_step(shard(*next(valid_batches)))
            log = log if arch_log is None else _averaged(arch_log, phase, step)
        elif number % plan.weight_steps:
            continue
        line = LogLine.of(log, epoch, step, phase)
        if on_line is not None:
            on_line(line)
        yield line


def _averaged(log: StepLog, phase: str, step: int) -> StepLog:
    """Return a step's log, averaged over all ranks. Raises `HwnasError` if it is not finite."""
    loss, accuracy = average([log.loss, log.accuracy])
    if not math.isfinite(loss):
        raise HwnasError(
            f"the {phase} loss is not finite at step {step}; the run stops here "
            "and keeps its last checkpoint"
        )
    return msgspec.structs.replace(log, loss=loss, accuracy=accuracy)


def _check_finite(state: dict[str, Tensor], epoch: int) -> None:
    """Raise `HwnasError` if the last step of an epoch had a finite loss and broke the weights."""
    for name, value in state.items():
        if not value.isfinite().all():
            raise HwnasError(
                f"{name} is not finite after the last step of epoch {epoch + 1}; the run stops here"
            )


def _endless(data: Data, plan: SearchPlan, generator) -> Iterator[Batch]:
    while True:
        yield from batches(data, plan.batch_size, generator, plan.flip)


def _learning_rate(plan: SearchPlan, step: int, steps: int) -> float:
    """Return the learning rate of a step; ``steps`` is the number of steps per epoch."""
    warmup, search = plan.warmup_epochs * steps, plan.search_epochs * steps
    if step < warmup:
        rise = min(1.0, (step + 1) / (0.1 * warmup))
        return rise * plan.warmup_learning_rate * 0.5 * (1 + math.cos(math.pi * step / warmup))
    progress = min(1.0, (step - warmup) / max(1, search))
    return plan.search_learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


def _resume(strategy: SteppedStrategy, files: SearchFiles) -> int:
    """Load the checkpoint if there is one, and return its epochs."""
    epochs = 0
    if files.checkpoint.exists():
        state, notes = load_checkpoint(files.checkpoint)
        strategy.load_state_dict(state)
        epochs = int(notes["epochs"])
    truncate_log(files.log, epochs)
    return epochs
