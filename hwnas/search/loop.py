"""The loop of strategies that alternate steps: warm-up, search, log, checkpoint, resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import cast

import msgspec
import torch
from torch import Tensor

from hwnas.errors import HwnasError, UsageError
from hwnas.files import append_line
from hwnas.search.log import LogLine, OnLine, append_log, truncate_log
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import JudgingStrategy, ParallelStrategy, SteppedStrategy, StepResult
from hwnas.training.checkpoint import (
    CHECKPOINT_INTERVAL_S,
    check_finite,
    load_checkpoint,
    next_checkpoint_s,
    save_checkpoint,
)
from hwnas.training.compute import memory_errors, peak_bytes
from hwnas.training.distributed import (
    average,
    broadcast,
    broadcast_state,
    check_alike,
    ranks,
    synced_norms,
)
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Batch, Data
from hwnas.training.loop import IMAGES, READ_STEPS
from hwnas.training.seeds import derived_seed


class SearchSpeed(msgspec.Struct, frozen=True):
    """Speed of an epoch of a search: a line of ``search/speed.jsonl``."""

    epoch: int
    images_per_s: float
    """Training images of all ranks, since the start or the resumption of the epoch."""
    waiting: float
    """Share of that time in which no batch was ready."""
    peak_bytes: int
    """Largest memory so far: of the GPU, or of this process on a CPU."""


def run_search(
    strategy: SteppedStrategy,
    train: Data,
    valid: Data,
    plan: SearchPlan,
    seed: int,
    files: SearchFiles | None,
    rounds: int = 1,
    on_line: OnLine | None = None,
    on_speed: Callable[[SearchSpeed], None] = lambda speed: None,
) -> None:
    """Run warm-up and search, and half a search again for each further round.

    Steps that are in ``files`` are not repeated. With several ranks (`hwnas.training.distributed`)
    only rank 0 has files, the others get ``None``; all end with the same state. The randomness of
    a step depends only on ``seed`` and its number. Raises `HwnasError` if the loss is not finite;
    the last checkpoint stays. ``on_speed`` gets the speed of the epoch so far before each line.
    """
    _Search(strategy, train, valid, plan, seed, on_speed).run(files, rounds, on_line)
    if strategy.traits.judges:
        cast(JudgingStrategy, strategy).judge_on(valid, plan, len(train.labels), seed)


class _Search:
    """A search in progress: its batches, its position, and the steps between two lines of the
    log."""

    def __init__(
        self,
        strategy: SteppedStrategy,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        on_speed: Callable[[SearchSpeed], None],
    ) -> None:
        self.on_speed = on_speed
        self.strategy, self.plan, self.seed = strategy, plan, seed
        self.compute = train.compute
        self.batches = Batches(
            train, plan.batch_size, plan.augmentation, seed, epoch_images=plan.epoch_images
        )
        valid_seed = derived_seed(seed, "validation")
        self.valid_batches = Batches(valid, plan.arch_images, NO_AUGMENTATION, valid_seed)
        self.step = 0
        self.read_step = -1
        """Step of the last line."""
        self.unread = torch.zeros((), device=self.compute.device)
        """Sum of the losses since that step."""

    def run(self, files: SearchFiles | None, rounds: int, on_line: OnLine | None) -> None:
        self._resume(files)
        steps = self.batches.steps
        arch_step = self._arch_steps(self.step)
        part = -(-self.batches.batch_size // (ranks() * self.plan.accumulate))
        with (
            memory_errors(self.compute.device, part),
            closing(self.batches.from_step(self.step)) as batches,
            closing(self.valid_batches.from_step(arch_step)) as valid_batches,
        ):
            for epoch in range(self.step // steps, self.plan.epochs(rounds)):
                self._epoch(epoch, batches, valid_batches, files, on_line)

    def _epoch(
        self,
        epoch: int,
        batches: Iterator[Batch],
        valid_batches: Iterator[Batch],
        files: SearchFiles | None,
        on_line: OnLine | None,
    ) -> None:
        """Search up to the end of an epoch, from wherever a checkpoint continues it."""
        steps, warm_up = self.batches.steps, epoch < self.plan.warmup_epochs
        if self.step % steps == 0:
            self.strategy.generator.manual_seed(derived_seed(self.seed, "epoch", epoch))
            self.strategy.begin_epoch(warm_up)
        lines: list[LogLine] = []
        first, start = self.step, time.monotonic()
        next_save, self.batches.waited_s = start + CHECKPOINT_INTERVAL_S, 0.0
        with _norms(self.strategy):
            while self.step < (epoch + 1) * steps:
                for line in self._group(epoch, batches, valid_batches):
                    lines.append(line)
                    self.on_speed(self._speed(epoch, first, start))
                    if on_line is not None:
                        on_line(line)
                if lines and (now := time.monotonic()) >= next_save:
                    self._save(files, lines)
                    lines, next_save = [], next_checkpoint_s(now, CHECKPOINT_INTERVAL_S)
        self._check_losses(warm_up)
        self._save(files, lines)
        if files is not None:
            append_line(files.speed, self._speed(epoch, first, start))

    def _speed(self, epoch: int, first: int, start: float) -> SearchSpeed:
        """Return the speed since step ``first``, which was done at the time ``start``."""
        elapsed_s = max(time.monotonic() - start, 1e-9)
        images = (self.step - first) * self.batches.batch_size
        waiting = min(1.0, self.batches.waited_s / elapsed_s)
        return SearchSpeed(epoch, images / elapsed_s, waiting, peak_bytes(self.compute.device))

    def _group(
        self, epoch: int, batches: Iterator[Batch], valid_batches: Iterator[Batch]
    ) -> Iterator[LogLine]:
        """Do the weight steps before an architecture step, and that step.

        Yields lines for the first weight step and the architecture step; on a GPU not for all of
        them, because the host has to wait for the values.
        """
        left = self.batches.steps - self.step % self.batches.steps
        count = min(self.plan.weight_steps, left)
        log = self._reads
        result = self._weight_step(next(batches))
        if log:
            yield self._line(result, epoch, self.step - 1)
        for _ in range(1, count):
            result = self._weight_step(next(batches))
        if self._trains_architecture(epoch) and count == self.plan.weight_steps:
            arch_result = self.strategy.architecture_step(next(valid_batches))
            if arch_result is not None:
                result = self._add(arch_result)
            if log:
                yield self._line(result, epoch, self.step - 1)

    def _weight_step(self, batch: Batch) -> StepResult:
        self.strategy.generator.manual_seed(derived_seed(self.seed, "paths", self.step))
        rate = _learning_rate(self.plan, self.step, self.batches.steps)
        self.step += 1
        return self._add(self.strategy.weight_step(batch, rate))

    def _trains_architecture(self, epoch: int) -> bool:
        return epoch >= self.plan.warmup_epochs + self.plan.first_arch_epoch

    def _arch_steps(self, step: int) -> int:
        """Return the number of architecture steps before a weight step."""
        epoch, number = divmod(step, self.batches.steps)
        first = self.plan.warmup_epochs + self.plan.first_arch_epoch
        whole = max(0, epoch - first) * (self.batches.steps // self.plan.weight_steps)
        return whole + (number // self.plan.weight_steps if epoch >= first else 0)

    @property
    def _reads(self) -> bool:
        """Return whether enough steps have passed since the last line; on a CPU one is enough."""
        if self.compute.kind == "cpu":
            return True
        return self.read_step < 0 or self.step - self.read_step >= READ_STEPS

    def _add(self, result: StepResult) -> StepResult:
        self.unread = self.unread + result.loss
        return result

    def _line(self, result: StepResult, epoch: int, step: int) -> LogLine:
        """Read a step's metrics, averaged over all ranks. Raises `HwnasError` if one since the last
        line was not finite."""
        warm_up = epoch < self.plan.warmup_epochs
        self._check_losses(warm_up)
        self.read_step = step
        loss, accuracy = average(torch.stack([result.loss.float(), result.accuracy]).tolist())
        return LogLine.of(
            self.strategy.metrics(),
            loss=loss,
            accuracy=accuracy,
            epoch=epoch,
            step=step,
            phase=_phase(warm_up),
        )

    def _check_losses(self, warm_up: bool) -> None:
        """Raise `HwnasError` if a loss since the last check was not finite."""
        [total] = average([self.unread.item()])
        self.unread = torch.zeros_like(self.unread)
        if not math.isfinite(total):
            raise HwnasError(
                f"the {_phase(warm_up)} loss is not finite at step {self.step - 1}; the run stops "
                "here and keeps its last checkpoint"
            )

    def _save(self, files: SearchFiles | None, lines: list[LogLine]) -> None:
        """Write state and log. Raises `HwnasError` if the last step had a finite loss and broke
        the weights."""
        state = self.strategy.state_dict()
        epochs, number = divmod(self.step, self.batches.steps)
        check_finite(state, f"step {self.step}")
        if files is None:
            return
        append_log(files.log, lines)
        notes = {"place": f"{self.step} {self.read_step}"}
        if epochs == self.plan.warmup_epochs and not number:
            save_checkpoint(files.warm_up, state, notes)
        save_checkpoint(files.checkpoint, state, notes, keep_previous=True)

    def _resume(self, files: SearchFiles | None) -> None:
        """Load the checkpoint if there is one; rank 0 has it for all ranks."""
        notes: dict[str, str] = {}
        state: dict[str, Tensor] | None = None
        if files is not None and files.checkpoint.exists():
            state, notes = load_checkpoint(files.checkpoint)
        if ranks() > 1:
            data = self.batches.data, self.valid_batches.data
            check_alike([part.digest for part in data], IMAGES)
            notes = broadcast(notes)
            state = broadcast_state(self.strategy.state_dict() if state is None else state)
        if state is not None:
            self.strategy.load_state_dict(state)
        self.step, self.read_step = map(int, notes.get("place", "0 -1").split())
        if files is not None:
            truncate_log(files.log, lambda line: line.step < self.step)


def _phase(warm_up: bool) -> str:
    return "warm-up" if warm_up else "search"


def _norms(strategy: SteppedStrategy) -> AbstractContextManager[None]:
    """Synchronise the batch norms of several ranks."""
    if ranks() == 1:
        return nullcontext()
    if not strategy.traits.parallel:
        raise UsageError(
            f"{type(strategy).__name__} searches in one process: start it without torchrun"
        )
    return synced_norms(cast(ParallelStrategy, strategy).supernet)


def _learning_rate(plan: SearchPlan, step: int, steps: int) -> float:
    """Return the learning rate of a step; ``steps`` is the number of steps per epoch."""
    warmup, search = plan.warmup_epochs * steps, plan.search_epochs * steps
    if step < warmup:
        rise = min(1.0, (step + 1) / max(1.0, plan.warmup_rise * warmup))
        return rise * plan.warmup_learning_rate * 0.5 * (1 + math.cos(math.pi * step / warmup))
    progress = min(1.0, (step - warmup) / max(1, search))
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    return plan.search_learning_rate * (plan.last_rate + (1 - plan.last_rate) * cosine)
