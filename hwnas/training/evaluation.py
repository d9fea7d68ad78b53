"""Evaluation of a trained network, and the statistics of its batch norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.training.loader import Data

RECALIBRATION_IMAGES = 2048
"""Maximum number of training images over which batch norm statistics are averaged."""


def batch_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the share of rows whose largest logit is the label's, or the most probable class's.

    ``labels`` are ``[N]``, or probabilities ``[N, classes]``. The result is on their device.
    """
    classes = labels if labels.ndim == 1 else labels.argmax(1)
    return (logits.argmax(1) == classes).float().mean()


@torch.no_grad()
def accuracy(network: nn.Module, data: Data) -> float:
    """Return the share of images whose largest logit is the label's, in evaluation mode."""
    network.eval()
    hits: list[Tensor] = []
    for images, labels in data.in_order():
        with data.compute.autocast():
            logits = network(images)
        hits.append((logits.argmax(1) == labels).sum())
    return torch.stack(hits).sum().item() / len(data.labels)


@torch.no_grad()
def recalibrate(network: nn.Module, data: Data) -> None:
    """Set all batch norm statistics to the averages over ``data`` under the current weights.

    A path cut from a supernet has the statistics of other paths and is near chance without this.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
    network.train()
    for number, (images, _) in enumerate(data.in_order(128), 1):
        if len(images) > 1:  # a single image has no variance on a map of 1 x 1
            for norm in norms:
                # a plain average over the batches; momentum None reads their number from a GPU
                norm.momentum = 1 / number
            network(images)
    for norm in norms:
        norm.momentum = 0.1
    network.eval()
