"""Training, evaluating and recalibrating a network; every epoch can be repeated exactly.

All randomness of an epoch (order, augmentation, dropout) follows from the seed, a name and the
epoch's number, so a run that is resumed at an epoch's start goes on as if nothing had happened.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import HwnasError
from hwnas.nn.network import WiredNetwork
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.distributed import (
    average_gradients,
    averaged,
    rank,
    ranks,
    share,
    synced_norms,
    told,
    told_state,
)
from hwnas.training.loader import Batch, Data, batches, derived_seed, seeded


class TrainingPlan(msgspec.Struct, frozen=True):
    """How a network is trained from scratch."""

    epochs: int = 15
    batch_size: int = 64
    peak_learning_rate: float = 0.1
    rise: float = 0.2
    """Share of the steps in which the learning rate rises; then it falls along a cosine."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """Of convolutions and the linear layer; none on batch norms and biases."""
    label_smoothing: float = 0.05
    dropout: float = 0.1
    flip: bool = True
    auxiliary: float = 0.0
    """Of cells: what the loss of a second classifier counts (`hwnas.nn.auxiliary`); DARTS: 0.4."""
    drop_path: float = 0.0
    """Of cells: probability that an image goes without a branch, rising from zero to this; DARTS:
    0.2."""


class EpochLog(msgspec.Struct, frozen=True):
    """What one epoch of training did."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """Share of the (augmented) training images that were right on the way."""


def one_cycle(step: int, steps: int, peak: float, rise: float) -> float:
    """Learning rate of a step: linear from peak/25 to the peak, then a cosine to zero."""
    rising = max(1.0, rise * steps)
    if step < rising:
        return peak * (0.04 + 0.96 * step / rising)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1.0, steps - rising)))


def train(
    network: nn.Module,
    data: Data,
    plan: TrainingPlan,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    teacher: nn.Module | None = None,
) -> None:
    """Train ``network`` in place; goes on from ``checkpoint`` where that exists.

    With a ``teacher``, half of the loss is to give its probabilities (`distillation`). Of several
    ranks (`hwnas.training.distributed`) the first may have a checkpoint; all end with the same
    weights. Raises `HwnasError` when the loss is not finite; the last good checkpoint stays.
    """
    optimizer = _optimizer(network, plan)
    start = _resume(network, optimizer, checkpoint)
    if ranks() > 1:
        start = told(start)
        _put(network, optimizer, told_state(_state(network, optimizer)))
    steps_per_epoch = max(1, len(data.images) // plan.batch_size)
    steps = plan.epochs * steps_per_epoch
    for epoch in range(start, plan.epochs):
        # each rank drops units of its own images
        torch.manual_seed(derived_seed(seed, "dropout", epoch, *([rank()] if rank() else [])))
        network.train()
        _drop_paths(network, plan.drop_path * epoch / plan.epochs)
        generator = seeded(seed, "train", epoch)
        loss_sum = right = seen = 0.0
        with synced_norms(network):
            for number, batch in enumerate(batches(data, plan.batch_size, generator, plan.flip)):
                step = epoch * steps_per_epoch + number
                rate = one_cycle(step, steps, plan.peak_learning_rate, plan.rise)
                loss, hits = _step(network, optimizer, share(*batch), rate, plan, teacher)
                count = len(batch[1])
                loss_sum += _finite(loss, epoch, number, plan) * count
                right += hits * count
                seen += count
        _check_weights(network, epoch)
        if checkpoint is not None:
            _save(network, optimizer, checkpoint, epoch + 1)
        if on_epoch is not None:
            on_epoch(EpochLog(epoch + 1, plan.epochs, loss_sum / seen, right / seen))
    _drop_paths(network, 0.0)


def _drop_paths(network: nn.Module, probability: float) -> None:
    for module in network.modules():
        if isinstance(module, WiredNetwork):
            module.drop_path = probability


def _step(
    network: nn.Module,
    optimizer: torch.optim.SGD,
    batch: Batch,
    rate: float,
    plan: TrainingPlan,
    teacher: nn.Module | None,
) -> tuple[float, float]:
    """Train on a batch, or this rank's part of one; return loss and accuracy of the whole."""
    images, labels = batch
    for group in optimizer.param_groups:
        group["lr"] = rate
    given = network(images)
    logits, auxiliary = given if isinstance(given, tuple) else (given, None)
    loss = F.cross_entropy(logits, labels, label_smoothing=plan.label_smoothing)
    if auxiliary is not None:
        more = F.cross_entropy(auxiliary, labels, label_smoothing=plan.label_smoothing)
        loss = loss + plan.auxiliary * more
    if teacher is not None:
        loss = 0.5 * loss + 0.5 * distillation(logits, teacher, images)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(network.parameters())
    optimizer.step()
    hits = (logits.argmax(1) == labels).float().mean().item()
    whole = averaged([loss.item(), hits])
    return whole[0], whole[1]


def _check_weights(network: nn.Module, epoch: int) -> None:
    """Raise `HwnasError` for an epoch whose last step had a finite loss and broke the weights."""
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise HwnasError(
                f"{name} is not finite after the last step of epoch {epoch + 1}; the last good "
                "checkpoint stays"
            )


TEMPERATURE = 4.0


def distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the divergence of softened probabilities from the teacher's, times T^2.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    teacher.eval()
    with torch.no_grad():
        wanted = F.log_softmax(teacher(images) / TEMPERATURE, dim=1)
    given = F.log_softmax(logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.kl_div(given, wanted, reduction="batchmean", log_target=True)


def _finite(loss: float, epoch: int, number: int, plan: TrainingPlan) -> float:
    if not math.isfinite(loss):
        raise HwnasError(
            f"the training loss is not finite in epoch {epoch + 1}, step {number + 1}; try a lower "
            f"learning rate than {plan.peak_learning_rate:g}"
        )
    return loss


def keep_freed_memory() -> None:
    """Let glibc keep what it frees: activations come and go each step, and giving their pages
    back to the kernel costs a sixth of a training step here. Nothing happens on other systems.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD):
            mallopt(option, 1 << 28)


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of images whose largest logit is the label's, in evaluation mode."""
    network.eval()
    hits = ((network(images).argmax(1) == labels).sum().item() for images, labels in data.whole())
    return sum(hits) / len(data.labels)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Options of glibc's ``mallopt``."""

RECALIBRATED = 2048
"""Training images that batch norm statistics are averaged over, at most."""


@torch.no_grad()
def recalibrate(network: nn.Module, data: Data) -> None:
    """Set all batch norm statistics to the averages over ``data`` under the present weights.

    A path cut from a supernet has statistics of other paths: without this it is near chance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    for images, _ in data.whole(128):
        if len(images) > 1:  # on one pixel a single image has no variance
            network(images)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()


def _optimizer(network: nn.Module, plan: TrainingPlan) -> torch.optim.SGD:
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": plan.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, plan.peak_learning_rate, plan.momentum, nesterov=True)


def _save(network: nn.Module, optimizer: torch.optim.SGD, path: Path, epoch: int) -> None:
    save_checkpoint(path, _state(network, optimizer), {"epoch": str(epoch)})


def _resume(network: nn.Module, optimizer: torch.optim.SGD, path: Path | None) -> int:
    if path is None or not path.exists():
        return 0
    state, notes = load_checkpoint(path)
    _put(network, optimizer, state)
    return int(notes["epoch"])


def _state(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    """Return weights, statistics and momenta."""
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            state[f"momentum.{name}"] = buffer
    return state


def _put(network: nn.Module, optimizer: torch.optim.SGD, state: dict[str, Tensor]) -> None:
    """Put back what `_state` returned."""
    network.load_state_dict(
        {name[8:]: value for name, value in state.items() if name.startswith("network.")}
    )
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in state:
            optimizer.state[parameter]["momentum_buffer"] = state[f"momentum.{name}"]
