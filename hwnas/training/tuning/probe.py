"""The first classifier of a fine-tuning: a logistic regression on the features of the network.

Fine-tuning from it distorts the features less than from random weights: LP-FT of Kumar et al.,
"Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution", ICLR 2022,
arXiv:2202.10054.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.training.compute import full_precision
from hwnas.training.images.loader import Data
from hwnas.training.losses import cross_entropy
from hwnas.training.tuning.rates import classifier

PENALTY = 0.03
"""Factor of the squared weights, for features of variance 1."""
ITERATIONS = 100
"""Maximum number of L-BFGS's iterations."""


def fit_classifier(network: nn.Module, data: Data, class_weights: Tensor | None) -> None:
    """Fit the classifier of ``network`` in place to images without augmentation.

    Other layers do not change. The features are computed once, in evaluation mode.
    """
    linear = classifier(network)
    if not isinstance(linear, nn.Linear):  # has the classes that it was trained for
        return
    features, labels = _features(network, linear, data)
    mean, std = features.mean(0), features.std(0).clamp_min(1e-6)
    weight, bias = _logistic_regression(
        (features - mean) / std, labels, linear.out_features, class_weights
    )
    with torch.no_grad():
        linear.weight.copy_(weight / std)
        linear.bias.copy_(bias - (weight / std) @ mean)


@torch.no_grad()
def _features(network: nn.Module, linear: nn.Linear, data: Data) -> tuple[Tensor, Tensor]:
    """Return the inputs of ``linear`` ``[N, C]`` and the labels ``[N]``, on the device."""
    features: list[Tensor] = []
    labels: list[Tensor] = []
    handle = linear.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    network.eval()
    try:
        for images, batch_labels in data.in_order():
            with data.compute.autocast():
                network(images)
            labels.append(batch_labels)
    finally:
        handle.remove()
    return full_precision(torch.cat(features)), torch.cat(labels)


def _logistic_regression(
    features: Tensor, labels: Tensor, classes: int, class_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return weights ``[classes, C]`` and biases ``[classes]``."""
    weight = features.new_zeros(classes, features.shape[1], requires_grad=True)
    bias = features.new_zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = F.linear(features, weight, bias)
        total = cross_entropy(logits, labels, 0.0, class_weights)
        total = total + PENALTY * weight.square().sum()
        total.backward()
        return total

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    return weight.detach(), bias.detach()
