"""The loop that every strategy runs in: warm-up, search, log, checkpoint, resume."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec
from torch import Tensor, nn

from hwnas.errors import HwnasError, UsageError
from hwnas.files import read_lines, write_atomic
from hwnas.latency_models.cost import CostTable
from hwnas.search.strategy import StepLog, SteppedStrategy
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.distributed import averaged, ranks, share, synced_norms, told, told_state
from hwnas.training.loader import Batch, Data, batches, derived_seed


class SearchPlan(msgspec.Struct, frozen=True):
    """How long and how fast a supernet is trained and searched."""

    warmup_epochs: int = 6
    """Weights only, on paths that are still nearly uniform."""
    search_epochs: int = 4
    batch_size: int = 64
    warmup_learning_rate: float = 0.1
    """Falls along a cosine to zero during the warm-up, after a rise over its first tenth."""
    search_learning_rate: float = 0.025
    """Falls along a cosine to a tenth during the search; later rounds keep that."""
    weight_steps: int = 2
    """Weight steps before each architecture step."""
    flip: bool = True
    children: int = 40
    """Networks that a search trains which trains whole networks (`hwnas.search.eas.strategy`)."""
    child_epochs: int = 3
    """Of each of them; the network that they grow from is trained ``warmup_epochs``."""


class LogLine(msgspec.Struct, frozen=True):
    """One line of ``search/log.jsonl``."""

    epoch: int
    step: int
    phase: str
    """``warm-up`` or ``search``."""
    loss: float
    accuracy: float
    entropy: float | None
    expected_ms: float | None
    multiplier: float | None
    skips: int | None = None
    """Of a search on cells: in the normal cell that would be derived now."""
    reduction_skips: int | None = None
    eigenvalue: float | None = None
    live_nodes: int | None = None


class SearchFiles(msgspec.Struct, frozen=True):
    """Where a search keeps what it has done."""

    checkpoint: Path
    log: Path


@runtime_checkable
class OwnLoop(Protocol):
    """A strategy whose search is no alternation of steps, e.g. one that trains whole networks."""

    def search(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        rounds: int = 1,
        on_line: Callable[[LogLine], None] | None = None,
    ) -> None:
        """Search up to the end of round ``rounds``, as `run_search` does; what ``files`` says was
        done is not done again."""
        ...


@runtime_checkable
class Parallel(Protocol):
    """A strategy whose steps are those of the whole batch when several ranks share it."""

    parallel: Literal[True]
    costs: CostTable

    @property
    def supernet(self) -> nn.Module: ...


@runtime_checkable
class Epochs(Protocol):
    """A strategy that settles something at the start of each epoch."""

    def begin_epoch(self, warm_up: bool) -> None: ...


def run_search(
    strategy: SteppedStrategy,
    train: Data,
    valid: Data,
    plan: SearchPlan,
    seed: int,
    files: SearchFiles | None,
    rounds: int = 1,
    on_line: Callable[[LogLine], None] | None = None,
) -> None:
    """Run warm-up and search, and a search's half length again for each further round.

    What ``files`` says was done is not done again. Of several ranks (`hwnas.training.distributed`)
    only the first has files; the others run with ``None`` beside it, and all end with the same
    state. Every epoch's randomness follows from ``seed`` and its number. Raises `HwnasError` when
    the loss is not finite; the last checkpoint stays.
    """
    done = 0 if files is None else _resume(strategy, files)
    if ranks() > 1:
        done = told(done)
        strategy.load_state_dict(told_state(strategy.state_dict()))
    end = plan.warmup_epochs + plan.search_epochs + (rounds - 1) * further_epochs(plan)
    for epoch in range(done, end):
        strategy.generator.manual_seed(derived_seed(seed, "paths", epoch))
        if isinstance(strategy, Epochs):
            strategy.begin_epoch(epoch < plan.warmup_epochs)
        with _norms(strategy):
            lines = list(_epoch(strategy, train, valid, plan, seed, epoch, on_line))
        state = strategy.state_dict()
        _check_finite(state, epoch)
        if files is None:
            continue
        with open(files.log, "ab") as file:
            file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        notes = {"epochs": str(epoch + 1)}
        if epoch + 1 == plan.warmup_epochs:
            save_checkpoint(warm_up_checkpoint(files.checkpoint), state, notes)
        save_checkpoint(files.checkpoint, state, notes)


def _norms(strategy: SteppedStrategy) -> AbstractContextManager[None]:
    """Let the batch norms of several ranks work together."""
    if ranks() == 1:
        return nullcontext()
    if not isinstance(strategy, Parallel):
        raise UsageError(
            f"{type(strategy).__name__} searches in one process: start it without torchrun"
        )
    return synced_norms(strategy.supernet)


def warm_up_checkpoint(checkpoint: Path) -> Path:
    """Return where a search keeps its state at the end of the warm-up: no latency is in it, so it
    is where a search for another device or budget can begin."""
    return checkpoint.with_name(f"warm-up{checkpoint.suffix}")


def further_epochs(plan: SearchPlan) -> int:
    """Return the search epochs of each round after the first."""
    return max(1, plan.search_epochs // 2)


def read_log(files: SearchFiles) -> list[LogLine]:
    return list(read_lines(files.log, LogLine))


def _epoch(
    strategy: SteppedStrategy,
    train: Data,
    valid: Data,
    plan: SearchPlan,
    seed: int,
    epoch: int,
    on_line: Callable[[LogLine], None] | None,
) -> Iterator[LogLine]:
    """Run one epoch; yield a line for the first of ``plan.weight_steps`` steps and, in the search,
    for the architecture step after the last of them."""
    warm_up = epoch < plan.warmup_epochs
    phase = "warm-up" if warm_up else "search"
    steps = max(1, len(train.images) // plan.batch_size)
    generator = strategy.generator
    valid_batches = _endless(valid, plan, generator)
    for number, batch in enumerate(batches(train, plan.batch_size, generator, plan.flip)):
        step = epoch * steps + number
        rate = _learning_rate(plan, step, steps)
        done = _finite(strategy.weight_step(share(*batch), rate), phase, step)
        if not warm_up and (number + 1) % plan.weight_steps == 0:
            decided = strategy.architecture_step(share(*next(valid_batches)))
            done = done if decided is None else _finite(decided, phase, step)
        elif number % plan.weight_steps:
            continue
        line = _line(done, epoch, step, phase)
        if on_line is not None:
            on_line(line)
        yield line


def _finite(done: StepLog, phase: str, step: int) -> StepLog:
    """Return what a step did, over the parts of all ranks."""
    loss, accuracy = averaged([done.loss, done.accuracy])
    done = msgspec.structs.replace(done, loss=loss, accuracy=accuracy)
    if not math.isfinite(done.loss):
        raise HwnasError(
            f"the {phase} loss is not finite at step {step}; the run stops here, "
            "its last checkpoint is kept"
        )
    return done


def _check_finite(state: dict[str, Tensor], epoch: int) -> None:
    """Raise `HwnasError` for an epoch whose last step had a finite loss and broke the weights."""
    for name, value in state.items():
        if not value.isfinite().all():
            raise HwnasError(
                f"{name} is not finite after the last step of epoch {epoch + 1}; the run stops here"
            )


def _line(done: StepLog, epoch: int, step: int, phase: str) -> LogLine:
    return LogLine(
        epoch,
        step,
        phase,
        done.loss,
        done.accuracy,
        done.entropy,
        done.expected_ms,
        done.multiplier,
        done.skips,
        done.reduction_skips,
        done.eigenvalue,
        done.live_nodes,
    )


def _endless(data: Data, plan: SearchPlan, generator) -> Iterator[Batch]:
    while True:
        yield from batches(data, plan.batch_size, generator, plan.flip)


def _learning_rate(plan: SearchPlan, step: int, steps: int) -> float:
    """Return the rate of a step, ``steps`` being those of an epoch."""
    warmup, search = plan.warmup_epochs * steps, plan.search_epochs * steps
    if step < warmup:
        rise = min(1.0, (step + 1) / (0.1 * warmup))
        return rise * plan.warmup_learning_rate * 0.5 * (1 + math.cos(math.pi * step / warmup))
    share = min(1.0, (step - warmup) / max(1, search))
    return plan.search_learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


def _resume(strategy: SteppedStrategy, files: SearchFiles) -> int:
    """Load the checkpoint if there is one; drop log lines of the epoch that was cut off."""
    if not files.checkpoint.exists():
        write_atomic(files.log, b"")
        return 0
    state, notes = load_checkpoint(files.checkpoint)
    strategy.load_state_dict(state)
    done = int(notes["epochs"])
    lines = [line for line in read_lines(files.log, LogLine) if line.epoch < done]
    write_atomic(files.log, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return done
