"""Training a network; every step can be repeated exactly, and a training resumes at any step.

All randomness of a step (order, augmentation, dropout) follows from the seed, a name and the number
of the step, so a training that was interrupted continues as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from torch import Tensor, nn

from hwnas.errors import HwnasError
from hwnas.nn.network import WiredNetwork
from hwnas.nn.resized import Resized
from hwnas.training.checkpoint import (
    CHECKPOINT_INTERVAL_S,
    Place,
    TrainingState,
    check_finite,
    load_checkpoint,
    next_checkpoint_s,
    read_place,
    save_checkpoint,
)
from hwnas.training.compute import (
    full_precision,
    memory_errors,
    peak_bytes,
)
from hwnas.training.distributed import (
    average,
    average_gradients,
    broadcast,
    broadcast_state,
    check_alike,
    rank,
    ranks,
    synced_norms,
)
from hwnas.training.evaluation import batch_accuracy
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Batch, Data
from hwnas.training.log import EpochLog, Progress
from hwnas.training.losses import balanced_weights, distillation, task_loss
from hwnas.training.plan import TrainingPlan, learning_rate
from hwnas.training.seeds import derived_seed
from hwnas.training.tuning.average import AveragedNetwork
from hwnas.training.tuning.best import Best
from hwnas.training.tuning.probe import fit_classifier
from hwnas.training.tuning.rates import parameter_groups
from hwnas.training.tuning.sizes import shown

READ_STEPS = 50
"""Steps between two reads of the loss from a GPU, for which the host must wait."""

IMAGES = "images or labels are"
"""What must be alike on all ranks (`check_alike`)."""


def train(
    network: nn.Module,
    data: Data,
    plan: TrainingPlan,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    teacher: nn.Module | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    valid: Data | None = None,
) -> None:
    """Train ``network`` in place on the device of ``data``; continue from ``checkpoint``.

    The network is on that device already (`hwnas.training.compute.Compute.place`). With a
    ``teacher``, a part of the loss is `distillation`. A plan with patience needs the validation
    images ``valid``, on rank 0. With several ranks
    (`hwnas.training.distributed`) only rank 0 has a checkpoint; all ranks end with the same
    weights. Raises `HwnasError` when the loss is not finite; the last good checkpoint stays.
    """
    _Training(network, data, plan, seed, teacher, valid).run(checkpoint, on_epoch, on_progress)


class _Sums(NamedTuple):
    """Sums over the steps of an epoch, of all ranks."""

    loss: float = 0.0
    accuracy: float = 0.0
    steps: int = 0


class _Training:
    """A training: what changes in it, and its loop."""

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        plan: TrainingPlan,
        seed: int,
        teacher: nn.Module | None,
        valid: Data | None,
    ) -> None:
        if isinstance(network, Resized):
            plan = msgspec.structs.replace(plan, small_share=0.0)  # would be enlarged again
        self.network, self.plan, self.seed, self.teacher = network, plan, seed, teacher
        self.compute = data.compute
        self.batches = Batches(
            data, plan.batch_size, plan.augmentation, seed, epoch_images=plan.epoch_images
        )
        self.steps = plan.epochs * self.batches.steps
        self.batches.whole_from = math.ceil((1 - plan.whole_share) * self.steps)
        self.class_weights = (
            self.compute.put(balanced_weights(data.labels, data.classes))
            if plan.class_weights == "balanced"
            else None
        )
        self.optimizer = _optimizer(network, plan)
        self.scaler = self.compute.scaler()
        self.averaged = AveragedNetwork(network, plan.ema) if plan.ema else None
        self.state = TrainingState(network, self.optimizer, self.averaged, self.scaler)
        self.best = Best(valid, plan.patience)
        self.step = 0
        self.sums = _Sums()
        self.line: EpochLog | None = None
        """That of the last whole epoch."""

    def run(
        self,
        checkpoint: Path | None,
        on_epoch: Callable[[EpochLog], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._resume(checkpoint)
        if self.plan.patience and self.step == 0:
            self.best.judge(self.network, 0)
        steps = self.batches.steps
        part = -(-self.batches.batch_size // (ranks() * self.plan.accumulate))
        with (
            memory_errors(self.compute.device, part),
            closing(self.batches.from_step(self.step)) as batches,
        ):
            for epoch in range(self.step // steps, self.plan.epochs):
                if self.best.stops(epoch):
                    break
                line = self._epoch(epoch, batches, checkpoint, on_progress)
                if on_epoch is not None:
                    on_epoch(line)
        _set_drop_path(self.network, 0.0)
        if self.averaged is not None:
            self.averaged.copy_to(self.network)
        self.best.load_into(self.network)

    def _epoch(
        self,
        epoch: int,
        batches: Iterator[Batch],
        checkpoint: Path | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> EpochLog:
        """Train up to the end of an epoch, from wherever a checkpoint continues it."""
        self.network.train()
        if self.plan.frozen_norms:
            _freeze_norms(self.network)
        _set_drop_path(self.network, self.plan.drop_path * epoch / self.plan.epochs)
        end, every = (epoch + 1) * self.batches.steps, self._steps_per_read
        first, self.batches.waited_s = self.step, 0.0
        start = time.monotonic()
        next_save = start + CHECKPOINT_INTERVAL_S
        unread = torch.zeros(2, device=self.compute.device)
        with synced_norms(self.network):
            while self.step < end:
                unread += self._train_on(next(batches))
                self.step += 1
                if self.step % every and self.step < end:
                    continue
                self._read(unread, epoch)
                unread.zero_()
                if on_progress is not None:
                    on_progress(self._progress(first, time.monotonic() - start))
                if self.step < end and (now := time.monotonic()) >= next_save:
                    self._save(checkpoint, epoch)
                    next_save = next_checkpoint_s(now, CHECKPOINT_INTERVAL_S)
        mean = self._progress(first, time.monotonic() - start)
        self.line = line = EpochLog(
            epoch + 1,
            self.plan.epochs,
            mean.loss,
            mean.accuracy,
            mean.images_per_s,
            mean.waiting,
            mean.peak_bytes,
            self._judge(epoch + 1),
        )
        self.sums = _Sums()
        self._save(checkpoint, epoch)
        return line

    def _judge(self, epochs: int) -> float | None:
        """Return the validation accuracy of what would be the result after so many epochs."""
        if not self.plan.patience:
            return None
        return self.best.judge(
            self.network if self.averaged is None else self.averaged.module, epochs
        )

    @property
    def _steps_per_read(self) -> int:
        """Reading a CPU's numbers costs nothing."""
        return 1 if self.compute.kind == "cpu" else READ_STEPS

    def _train_on(self, batch: Batch) -> Tensor:
        """Train on a batch, or this rank's part; return ``[loss, accuracy]`` on the device."""
        # each rank draws its own dropout masks, as it has its own images
        number = [rank()] if rank() else []
        torch.manual_seed(derived_seed(self.seed, "dropout", self.step, *number))
        for group in self.optimizer.param_groups:
            rate = learning_rate(self.plan, self.step, self.batches.steps)
            group["lr"] = rate * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        images, labels = batch
        images = shown(images, self.plan, self.step, self.steps)
        parts = self.plan.accumulate
        metrics = torch.stack(
            [
                self._backward(part, len(part[1]) / len(labels))
                for part in zip(images.chunk(parts), labels.chunk(parts), strict=True)
            ]
        ).sum(0)
        average_gradients(self.network.parameters())  # first: all ranks skip the same steps
        self.scaler.unscale_(self.optimizer)
        if self.plan.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.plan.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not None:
            self.averaged.update()
        return metrics

    def _backward(self, part: Batch, share: float) -> Tensor:
        """Add the gradient of a part that is this share of the batch, and return its share of loss
        and accuracy."""
        images, labels = part
        with self.compute.autocast():
            output = self.network(images)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        loss = task_loss(logits, auxiliary, labels, self.plan, self.class_weights)
        if self.teacher is not None:
            with self.compute.autocast():
                taught = distillation(full_precision(logits), self.teacher, images)
            part_taught = self.plan.teacher_share
            loss = (1 - part_taught) * loss + part_taught * taught
        loss = loss * share if share < 1 else loss
        self.scaler.scale(loss).backward()
        return torch.stack([loss.detach(), share * batch_accuracy(logits.detach(), labels)])

    def _read(self, unread: Tensor, epoch: int) -> None:
        """Add what the steps since the last read summed up. Raises `HwnasError` if the loss is not
        finite."""
        last = self.step - epoch * self.batches.steps
        steps = last - self.sums.steps
        loss, accuracy = average(unread.tolist())
        if not math.isfinite(loss):
            where = f"step {last}" if steps == 1 else f"steps {last - steps + 1} to {last}"
            raise HwnasError(
                f"the training loss is not finite in epoch {epoch + 1}, {where}; try a lower "
                f"learning rate than {self.plan.peak_learning_rate:g}"
            )
        sums = self.sums
        self.sums = _Sums(sums.loss + loss, sums.accuracy + accuracy, sums.steps + steps)

    def _progress(self, first: int, elapsed_s: float) -> Progress:
        elapsed_s = max(elapsed_s, 1e-9)
        return Progress(
            self.step,
            self.steps,
            self.sums.loss / self.sums.steps,
            self.sums.accuracy / self.sums.steps,
            (self.step - first) * self.batches.batch_size / elapsed_s,
            min(1.0, self.batches.waited_s / elapsed_s),
            peak_bytes(self.compute.device),
        )

    def _save(self, checkpoint: Path | None, epoch: int) -> None:
        """Write the state. Raises `HwnasError` if the last step had a finite loss but broke the
        weights."""
        check_finite(self.network.state_dict(), f"the last step of epoch {epoch + 1}")
        if checkpoint is not None:
            loss, accuracy, steps = self.sums
            epochs = self.step // self.batches.steps
            place = Place(epochs, self.step, (loss, accuracy, steps), self.line, self.best.epoch)
            notes = {"place": msgspec.json.encode(place).decode()}
            save_checkpoint(checkpoint, self._tensors(), notes, keep_previous=True)

    def _resume(self, checkpoint: Path | None) -> None:
        notes: dict[str, str] = {}
        state: dict[str, Tensor] | None = None
        if checkpoint is not None and checkpoint.exists():
            state, notes = load_checkpoint(checkpoint)
        elif self.plan.probe and rank() == 0:
            fit_classifier(self.network, self.batches.data, self.class_weights)
        if ranks() > 1:
            check_alike(self.batches.data.digest, IMAGES)
            notes = broadcast(notes)
            state = broadcast_state(self._tensors() if state is None else state)
        place = read_place(notes)
        if state is not None:
            self.state.load(state)
            self.best.load(state, place.best)
        self.step, self.sums, self.line = place.step, _Sums(*place.sums), place.line

    def _tensors(self) -> dict[str, Tensor]:
        return self.state.tensors() | self.best.tensors()


def _freeze_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def _set_drop_path(network: nn.Module, probability: float) -> None:
    for module in network.modules():
        if isinstance(module, WiredNetwork):
            module.drop_path = probability


def _optimizer(network: nn.Module, plan: TrainingPlan) -> torch.optim.SGD:
    groups = parameter_groups(network, plan)
    return torch.optim.SGD(groups, plan.peak_learning_rate, plan.momentum, nesterov=plan.nesterov)
