"""Evaluation of a trained network, and the statistics of its batch norms."""

from __future__ import annotations

import msgspec
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hwnas.measurement.classification import TOP5_CLASSES, balanced_accuracy
from hwnas.nn.elastic.norms import reestimate
from hwnas.training.images.loader import Data

RECALIBRATION_IMAGES = 2048
"""Maximum number of training images over which batch norm statistics are averaged."""
SCALES = (0.05, 20.0)
"""Inverse temperatures that `best_scale` tries."""


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


class Evaluation(msgspec.Struct, frozen=True):
    """Accuracies of a network on some images, from 0 to 1."""

    accuracy: float
    top5_accuracy: float | None = None
    """Share of images whose label is among the five largest logits; ``None``: few classes."""
    balanced_accuracy: float | None = None
    """Mean of the accuracies of the classes; ``None`` if the classes are balanced."""
    label_probability: float = 0.0
    """The `label_probability`."""


def label_probability(logits: Tensor, labels: Tensor) -> float:
    """Return the mean probability that ``logits [N, classes]`` give the ``labels [N]``, at the
    temperature of the lowest cross-entropy.

    It varies less with the choice of the images than the accuracy, since every image contributes by
    its margin. The temperature (Guo et al. 2017) removes the confidence of a network, which depends
    on its training: with labels, smoothed labels or a teacher.
    """
    logits, labels = logits.cpu().double(), labels.cpu()  # an MPS device has no float64
    scaled = best_scale(logits, labels) * logits
    return scaled.softmax(1).gather(1, labels[:, None]).mean().item()


def best_scale(logits: Tensor, labels: Tensor) -> float:
    """Return the factor of ``logits [N, classes]``, an inverse temperature, with which their mean
    cross-entropy is lowest."""
    logits = logits.double()
    # the cross-entropy is convex in the inverse of the temperature
    bounded = minimize_scalar(
        lambda scale: cross_entropy(scale * logits, labels).item(),
        bounds=SCALES,
        method="bounded",
    )
    return float(bounded.x)


@torch.no_grad()
def evaluate(network: nn.Module, data: Data) -> Evaluation:
    """Return the accuracies of ``network`` on all images of ``data``, in evaluation mode."""
    network.eval()
    predicted: list[Tensor] = []
    answers: list[Tensor] = []
    top5_hits: list[Tensor] = []
    for images, labels in data.in_order():
        with data.compute.autocast():
            logits = network(images)
        answers.append(logits)
        predicted.append(logits.argmax(1))
        if logits.shape[1] >= TOP5_CLASSES:
            top5_hits.append((logits.topk(5, 1).indices == labels[:, None]).any(1))
    classes = torch.cat(predicted).cpu()
    return Evaluation(
        accuracy=(classes == data.labels).double().mean().item(),
        top5_accuracy=torch.cat(top5_hits).float().mean().item() if top5_hits else None,
        balanced_accuracy=balanced_accuracy(classes.numpy(), data.labels.numpy()),
        label_probability=label_probability(torch.cat(answers), data.labels),
    )


def recalibrate(network: nn.Module, data: Data) -> None:
    """Set all batch norm statistics to the averages over ``data`` under the current weights.

    A path cut from a supernet has the statistics of other paths and is near chance without this.
    """
    reestimate(network, (images for images, _ in data.in_order(128)))
