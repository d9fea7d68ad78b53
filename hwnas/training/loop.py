"""Training, evaluating and recalibrating a network; every epoch can be repeated exactly.

All randomness of an epoch (order, augmentation, dropout) follows from the seed, a name and the
number of the epoch, so a training that is resumed at an epoch continues as if uninterrupted.
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
    average,
    average_gradients,
    broadcast,
    broadcast_state,
    rank,
    ranks,
    shard,
    synced_norms,
)
from hwnas.training.loader import Batch, Data, batches, derived_seed, seeded


class TrainingPlan(msgspec.Struct, frozen=True):
    """How a network is trained from scratch."""

    epochs: int = 15
    batch_size: int = 64
    peak_learning_rate: float = 0.1
    warmup_share: float = 0.2
    """Share of the steps in which the learning rate rises; then it falls along a cosine."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """L2 penalty on weights of convolutions and linear layers, not on batch norms and biases."""
    label_smoothing: float = 0.05
    dropout: float = 0.1
    flip: bool = True
    auxiliary: float = 0.0
    """Weight of the auxiliary head's loss, for networks of cells (`hwnas.nn.auxiliary`); DARTS uses
    0.4."""
    drop_path: float = 0.0
    """Probability that a branch of a cell is dropped for an image; it rises from 0 to this. DARTS
    uses 0.2."""


def scaled_learning_rate(batch_size: int) -> float:
    """Return the peak learning rate for a batch size: linear, 0.1 for 64 images (Goyal et al.,
    "Accurate, Large Minibatch SGD", arXiv:1706.02677)."""
    return 0.1 * batch_size / 64


class EpochLog(msgspec.Struct, frozen=True):
    """Loss and accuracy of one epoch: a line of ``log.jsonl``."""

    epoch: int
    epochs: int
    loss: float
    accuracy: float
    """Share of the (augmented) training images that were classified correctly during the epoch."""


def one_cycle(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """Return the learning rate of a step: linear from peak/25 to the peak, then a cosine to 0."""
    warmup = max(1.0, warmup_share * steps)
    if step < warmup:
        return peak * (0.04 + 0.96 * step / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def train(
    network: nn.Module,
    data: Data,
    plan: TrainingPlan,
    seed: int,
    checkpoint: Path | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    teacher: nn.Module | None = None,
) -> None:
    """Train ``network`` in place; continue from ``checkpoint`` where that exists.

    With a ``teacher``, half of the loss is `distillation`. With several ranks
    (`hwnas.training.distributed`) only rank 0 has a checkpoint; all ranks end with the same
    weights. Raises `HwnasError` when the loss is not finite; the last good checkpoint stays.
    """
    optimizer = _optimizer(network, plan)
    start = _resume(network, optimizer, checkpoint)
    if ranks() > 1:
        start = broadcast(start)
        _restore(network, optimizer, broadcast_state(_state(network, optimizer)))
    steps_per_epoch = max(1, len(data.images) // plan.batch_size)
    steps = plan.epochs * steps_per_epoch
    for epoch in range(start, plan.epochs):
        # each rank draws its own dropout masks, as it has its own images
        torch.manual_seed(derived_seed(seed, "dropout", epoch, *([rank()] if rank() else [])))
        network.train()
        _set_drop_path(network, plan.drop_path * epoch / plan.epochs)
        generator = seeded(seed, "train", epoch)
        loss_sum = hits = images = 0.0
        with synced_norms(network):
            for number, batch in enumerate(batches(data, plan.batch_size, generator, plan.flip)):
                step = epoch * steps_per_epoch + number
                rate = one_cycle(step, steps, plan.peak_learning_rate, plan.warmup_share)
                loss, share = _step(network, optimizer, shard(*batch), rate, plan, teacher)
                count = len(batch[1])
                loss_sum += _check_finite(loss, epoch, number, plan) * count
                hits += share * count
                images += count
        _check_weights(network, epoch)
        if checkpoint is not None:
            _save(network, optimizer, checkpoint, epoch + 1)
        if on_epoch is not None:
            on_epoch(EpochLog(epoch + 1, plan.epochs, loss_sum / images, hits / images))
    _set_drop_path(network, 0.0)


def _set_drop_path(network: nn.Module, probability: float) -> None:
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
    """Train on a batch, or this rank's shard; return loss and accuracy of the whole batch."""
    images, labels = batch
    for group in optimizer.param_groups:
        group["lr"] = rate
    output = network(images)
    logits, auxiliary = output if isinstance(output, tuple) else (output, None)
    loss = F.cross_entropy(logits, labels, label_smoothing=plan.label_smoothing)
    if auxiliary is not None:
        auxiliary_loss = F.cross_entropy(auxiliary, labels, label_smoothing=plan.label_smoothing)
        loss = loss + plan.auxiliary * auxiliary_loss
    if teacher is not None:
        loss = 0.5 * loss + 0.5 * distillation(logits, teacher, images)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    average_gradients(network.parameters())
    optimizer.step()
    whole_loss, whole_accuracy = average([loss.item(), batch_accuracy(logits, labels)])
    return whole_loss, whole_accuracy


def _check_weights(network: nn.Module, epoch: int) -> None:
    """Raise `HwnasError` if the last step of an epoch had a finite loss but broke the weights."""
    for name, value in network.state_dict().items():
        if not value.isfinite().all():
            raise HwnasError(
                f"{name} is not finite after the last step of epoch {epoch + 1}; the last good "
                "checkpoint stays"
            )


TEMPERATURE = 4.0


def distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the KL divergence of softened probabilities from the teacher's, times T^2.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    teacher.eval()
    with torch.no_grad():
        target = F.log_softmax(teacher(images) / TEMPERATURE, dim=1)
    predicted = F.log_softmax(logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.kl_div(predicted, target, reduction="batchmean", log_target=True)


def _check_finite(loss: float, epoch: int, number: int, plan: TrainingPlan) -> float:
    if not math.isfinite(loss):
        raise HwnasError(
            f"the training loss is not finite in epoch {epoch + 1}, step {number + 1}; try a lower "
            f"learning rate than {plan.peak_learning_rate:g}"
        )
    return loss


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the kernel.

    Activations are allocated and freed in each step; returning their pages was measured to cost a
    sixth of a training step. Does nothing on other systems.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is not None:
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD):
            mallopt(option, 1 << 28)


def batch_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is the label's."""
    return (logits.argmax(1) == labels).float().mean().item()


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of images whose largest logit is the label's, in evaluation mode."""
    network.eval()
    hits = (
        (network(images).argmax(1) == labels).sum().item() for images, labels in data.in_order()
    )
    return sum(hits) / len(data.labels)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Options of glibc's ``mallopt``."""

RECALIBRATION_IMAGES = 2048
"""Maximum number of training images over which batch norm statistics are averaged."""


@torch.no_grad()
def recalibrate(network: nn.Module, data: Data) -> None:
    """Set all batch norm statistics to the averages over ``data`` under the current weights.

    A path cut from a supernet has the statistics of other paths and is near chance without this.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    network.train()
    for images, _ in data.in_order(128):
        if len(images) > 1:  # a single image has no variance on a map of 1 x 1
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
    _restore(network, optimizer, state)
    return int(notes["epoch"])


def _state(network: nn.Module, optimizer: torch.optim.SGD) -> dict[str, Tensor]:
    """Return the weights, batch norm statistics and momentum buffers by name."""
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        buffer = optimizer.state.get(parameter, {}).get("momentum_buffer")
        if buffer is not None:
            state[f"momentum.{name}"] = buffer
    return state


def _restore(network: nn.Module, optimizer: torch.optim.SGD, state: dict[str, Tensor]) -> None:
    """Load the state that `_state` returned."""
    network.load_state_dict(
        {name[8:]: value for name, value in state.items() if name.startswith("network.")}
    )
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in state:
            optimizer.state[parameter]["momentum_buffer"] = state[f"momentum.{name}"]
