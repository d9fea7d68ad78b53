"""Losses of a training: of the logits, of an auxiliary head's logits, and against a teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.training.compute import full_precision
from hwnas.training.plan import TrainingPlan

TEMPERATURE = 4.0
"""Temperature by which `distillation` divides the logits of both networks."""


def task_loss(
    logits: Tensor,
    auxiliary: Tensor | None,
    labels: Tensor,
    plan: TrainingPlan,
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the cross entropy of ``logits``, plus that of an auxiliary head with the plan's
    weight."""
    loss = cross_entropy(logits, labels, plan.label_smoothing, class_weights)
    if auxiliary is None:
        return loss
    second = cross_entropy(auxiliary, labels, plan.label_smoothing, class_weights)
    return loss + plan.auxiliary * second


def cross_entropy(
    logits: Tensor, labels: Tensor, smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Return the mean loss of the images, each weighted as its class.

    ``labels`` are ``[N]``, or probabilities ``[N, classes]``.
    """
    logits = full_precision(logits)
    if class_weights is None:
        return F.cross_entropy(logits, labels, label_smoothing=smoothing)
    losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    weights = class_weights[labels] if labels.ndim == 1 else labels @ class_weights
    return (losses * weights).mean()


def balanced_weights(labels: Tensor, classes: int) -> Tensor:
    """Return a weight for each class, inverse to its number of images; of mean 1 over the
    images."""
    counts = labels.bincount(minlength=classes)
    present = (counts > 0).sum()
    return len(labels) / (present * counts.clamp_min(1)).float()


def distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the KL divergence of softened probabilities from the teacher's, times T^2.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    teacher.eval()
    with torch.no_grad():
        target = F.log_softmax(full_precision(teacher(images)) / TEMPERATURE, dim=1)
    predicted = F.log_softmax(logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.kl_div(predicted, target, reduction="batchmean", log_target=True)
