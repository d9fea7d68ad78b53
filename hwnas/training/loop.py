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
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwnas.errors import HwnasError
from hwnas.nn.network import WiredNetwork
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.compute import (
    full_precision,
    load_scaler,
    memory_errors,
    peak_bytes,
    scaler_state,
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
from hwnas.training.plan import TrainingPlan, learning_rate
from hwnas.training.seeds import derived_seed

READ_STEPS = 50
"""Steps between two reads of the loss from a GPU, for which the host must wait."""
CHECKPOINT_INTERVAL_S = 600.0
"""Least time between two checkpoints within an epoch."""

IMAGES = "images or labels are"
"""What must be alike on all ranks (`check_alike`)."""


class EpochLog(msgspec.Struct, frozen=True):
    """Loss, accuracy and speed of one epoch: a line of ``log.jsonl``."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """Share of the (augmented) training images that were classified correctly during the epoch."""
    images_per_s: float = 0.0
    """Training images of all ranks per second, since the start or the resumption of the epoch."""
    waiting: float = 0.0
    """Share of that time in which no batch was ready."""
    peak_bytes: int = 0
    """Largest memory so far: of the GPU, or of this process on a CPU."""


class Progress(NamedTuple):
    """Where a training is, between two epochs."""

    step: int
    steps: int
    """Steps of the whole training."""
    loss: float
    """Mean of the epoch so far."""
    accuracy: float
    images_per_s: float
    waiting: float
    """Share of the time in which no batch was ready."""
    peak_bytes: int
    """Largest memory so far: of the GPU, or of this process on a CPU."""


def train(
    network: nn.Module,
    data: Data,
    plan: TrainingPlan,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    teacher: nn.Module | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Train ``network`` in place on the device of ``data``; continue from ``checkpoint``.

    The network is on that device already (`hwnas.training.compute.Compute.place`). With a
    ``teacher``, half of the loss is `distillation`. With several ranks
    (`hwnas.training.distributed`) only rank 0 has a checkpoint; all ranks end with the same
    weights. Raises `HwnasError` when the loss is not finite; the last good checkpoint stays.
    """
    _Training(network, data, plan, seed, teacher).run(checkpoint, on_epoch, on_progress)


class Place(msgspec.Struct, frozen=True):
    """Where a checkpoint continues a training: its note."""

    epoch: int = 0
    """Whole epochs before it."""
    step: int = 0
    """Steps before it."""
    sums: tuple[float, float, int] = (0.0, 0.0, 0)
    """Sums of loss and accuracy over the steps of its epoch so far, and their number."""


def read_place(notes: dict[str, str]) -> Place:
    """Return the place in the notes of a checkpoint; the start where there are none."""
    return msgspec.json.decode(notes.get("place", "{}"), type=Place)


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
    ) -> None:
        self.network, self.plan, self.seed, self.teacher = network, plan, seed, teacher
        self.compute = data.compute
        self.batches = Batches(data, plan.batch_size, plan.augmentation, seed)
        self.optimizer = _optimizer(network, plan)
        self.scaler = self.compute.scaler()
        self.averaged = (
            AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.ema))
            if plan.ema
            else None
        )
        self.step = 0
        self.sums = _Sums()

    def run(
        self,
        checkpoint: Path | None,
        on_epoch: Callable[[EpochLog], None] | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._resume(checkpoint)
        steps = self.batches.steps
        part = -(-self.batches.batch_size // (ranks() * self.plan.accumulate))
        with (
            memory_errors(self.compute.device, part),
            closing(self.batches.from_step(self.step)) as batches,
        ):
            for epoch in range(self.step // steps, self.plan.epochs):
                line = self._epoch(epoch, batches, checkpoint, on_progress)
                if on_epoch is not None:
                    on_epoch(line)
        _set_drop_path(self.network, 0.0)
        if self.averaged is not None:
            for own, mean in zip(
                self.network.parameters(), self.averaged.module.parameters(), strict=True
            ):
                own.data.copy_(mean.data)

    def _epoch(
        self,
        epoch: int,
        batches: Iterator[Batch],
        checkpoint: Path | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> EpochLog:
        """Train up to the end of an epoch, from wherever a checkpoint continues it."""
        self.network.train()
        _set_drop_path(self.network, self.plan.drop_path * epoch / self.plan.epochs)
        end, every = (epoch + 1) * self.batches.steps, self._steps_per_read
        first, self.batches.waited_s = self.step, 0.0
        start = saved = time.monotonic()
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
                if self.step < end and time.monotonic() - saved >= CHECKPOINT_INTERVAL_S:
                    self._save(checkpoint, epoch)
                    saved = time.monotonic()
        mean = self._progress(first, time.monotonic() - start)
        line = EpochLog(
            epoch + 1,
            self.plan.epochs,
            mean.loss,
            mean.accuracy,
            mean.images_per_s,
            mean.waiting,
            mean.peak_bytes,
        )
        self.sums = _Sums()
        self._save(checkpoint, epoch)
        return line

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
            group["lr"] = learning_rate(self.plan, self.step, self.batches.steps)
        self.optimizer.zero_grad(set_to_none=True)
        images, labels = batch
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
            self.averaged.update_parameters(self.network)
        return metrics

    def _backward(self, part: Batch, share: float) -> Tensor:
        """Add the gradient of a part that is this share of the batch, and return its share of loss
        and accuracy."""
        images, labels = part
        with self.compute.autocast():
            output = self.network(images)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        smoothing = self.plan.label_smoothing
        loss = F.cross_entropy(full_precision(logits), labels, label_smoothing=smoothing)
        if auxiliary is not None:
            auxiliary_loss = F.cross_entropy(
                full_precision(auxiliary), labels, label_smoothing=smoothing
            )
            loss = loss + self.plan.auxiliary * auxiliary_loss
        if self.teacher is not None:
            with self.compute.autocast():
                loss = 0.5 * loss + 0.5 * distillation(full_precision(logits), self.teacher, images)
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
            self.plan.epochs * self.batches.steps,
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
            place = Place(self.step // self.batches.steps, self.step, (loss, accuracy, steps))
            notes = {"place": msgspec.json.encode(place).decode()}
            save_checkpoint(checkpoint, self._state(), notes)

    def _resume(self, checkpoint: Path | None) -> None:
        notes: dict[str, str] = {}
        state: dict[str, Tensor] | None = None
        if checkpoint is not None and checkpoint.exists():
            state, notes = load_checkpoint(checkpoint)
        if ranks() > 1:
            check_alike(self.batches.data.digest, IMAGES)
            notes = broadcast(notes)
            state = broadcast_state(self._state() if state is None else state)
        if state is not None:
            self._restore(state)
        place = read_place(notes)
        self.step, self.sums = place.step, _Sums(*place.sums)

    def _state(self) -> dict[str, Tensor]:
        """Return weights, statistics, momenta, averaged weights and scale by name."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                state[f"momentum.{name}"] = buffer
        if self.averaged is not None:
            averaged = self.averaged.state_dict()
            state |= {f"averaged.{name}": value for name, value in averaged.items()}
        return state | scaler_state(self.scaler)

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Load the state that `_state` returned, from whatever device."""

        def part(prefix: str) -> dict[str, Tensor]:
            size = len(prefix)
            return {name[size:]: value for name, value in state.items() if name.startswith(prefix)}

        self.network.load_state_dict(part("network."))
        momenta = part("momentum.")
        for name, parameter in self.network.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = like(parameter, momenta[name])
        if self.averaged is not None:
            self.averaged.load_state_dict(part("averaged."))
        load_scaler(self.scaler, state)


def like(parameter: Tensor, values: Tensor) -> Tensor:
    """Return ``values`` on the device and in the memory layout of ``parameter``."""
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def check_finite(state: dict[str, Tensor], where: str) -> None:
    """Raise `HwnasError`, which names the tensor, if one is not finite; a read for each
    device."""
    finite: dict[torch.device, list[Tensor]] = {}
    for value in state.values():
        finite.setdefault(value.device, []).append(value.isfinite().all())
    if all(bool(torch.stack(values).all()) for values in finite.values()):
        return
    name = next(name for name, value in state.items() if not value.isfinite().all())
    raise HwnasError(f"{name} is not finite after {where}; the last good checkpoint stays")


def _set_drop_path(network: nn.Module, probability: float) -> None:
    for module in network.modules():
        if isinstance(module, WiredNetwork):
            module.drop_path = probability


TEMPERATURE = 4.0


def distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the KL divergence of softened probabilities from the teacher's, times T^2.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    teacher.eval()
    with torch.no_grad():
        target = F.log_softmax(full_precision(teacher(images)) / TEMPERATURE, dim=1)
    predicted = F.log_softmax(logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.kl_div(predicted, target, reduction="batchmean", log_target=True)


def _optimizer(network: nn.Module, plan: TrainingPlan) -> torch.optim.SGD:
    decayed = [p for p in network.parameters() if p.ndim > 1 or plan.decay_all]
    others = [p for p in network.parameters() if p.ndim <= 1 and not plan.decay_all]
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, plan.peak_learning_rate, plan.momentum, nesterov=plan.nesterov)
