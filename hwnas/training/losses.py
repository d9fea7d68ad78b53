"""The loss of a training: of logits, of an auxiliary head's logits, and from a teacher's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.training.compute import full_precision
from hwnas.training.plan import TrainingPlan

TEMPERATURE = 4.0
"""By which `distillation` divides the logits of both networks."""


def task_loss(
    logits: Tensor, auxiliary: Tensor | None, labels: Tensor, plan: TrainingPlan
) -> Tensor:
    """Return the cross entropy of ``logits``, plus that of an auxiliary head with the plan's
    weight."""
    loss = _cross_entropy(logits, labels, plan)
    if auxiliary is None:
        return loss
    return loss + plan.auxiliary * _cross_entropy(auxiliary, labels, plan)


def _cross_entropy(logits: Tensor, labels: Tensor, plan: TrainingPlan) -> Tensor:
    return F.cross_entropy(full_precision(logits), labels, label_smoothing=plan.label_smoothing)


def distillation(logits: Tensor, teacher: nn.Module, images: Tensor) -> Tensor:
    """Return the KL divergence of softened probabilities from the teacher's, times T^2.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
    """
    teacher.eval()
    with torch.no_grad():
        target = F.log_softmax(full_precision(teacher(images)) / TEMPERATURE, dim=1)
    predicted = F.log_softmax(logits / TEMPERATURE, dim=1)
    return TEMPERATURE**2 * F.kl_div(predicted, target, reduction="batchmean", log_target=True)
