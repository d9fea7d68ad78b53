"""The classifier of a probe is the minimum of the penalised loss, and nothing else changes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.nn.build import Network, build
from hwnas.training.evaluation import accuracy
from hwnas.training.losses import balanced_weights
from hwnas.training.tuning.probe import PENALTY, fit_classifier
from hwnas.training.tuning.rates import classifier
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space()
DATA = tiny_data(42)


def network() -> Network:
    torch.manual_seed(0)
    return build(SPACE.architecture(SPACE.default), dropout=0.5)


def features(probed: Network) -> Tensor:
    probed.eval()
    images, _ = next(DATA.in_order(42))
    with torch.no_grad():
        return probed.blocks[:-1](images).mean((2, 3))


@pytest.mark.parametrize("balanced", [False, True])
def test_the_gradient_vanishes_at_the_fitted_classifier(balanced: bool) -> None:
    probed = network()
    weights = balanced_weights(DATA.labels, 3) * torch.tensor([1.0, 2.0, 3.0]) if balanced else None
    fit_classifier(probed, DATA, weights)
    linear, inputs = classifier(probed), features(probed)
    std = inputs.std(0).clamp_min(1e-6)
    assert linear.bias is not None
    weight = (linear.weight.detach() * std).requires_grad_()
    logits = (inputs - inputs.mean(0)) / std @ weight.T
    logits = logits + linear.bias + linear.weight.detach() @ inputs.mean(0)
    losses = F.cross_entropy(logits, DATA.labels, reduction="none")
    if weights is not None:
        losses = losses * weights[DATA.labels]
    (losses.mean() + PENALTY * weight.square().sum()).backward()
    assert weight.grad is not None and weight.grad.abs().max() < 1e-3


def test_the_fitted_classifier_tells_what_the_fresh_one_does_not() -> None:
    probed = network()
    fresh = accuracy(probed, DATA)
    fit_classifier(probed, DATA, None)
    assert accuracy(probed, DATA) > max(0.6, fresh)


def test_only_the_classifier_changes() -> None:
    probed, untouched = network(), network().state_dict()
    fit_classifier(probed, DATA, None)
    changed = {
        name
        for name, value in probed.state_dict().items()
        if not torch.equal(value, untouched[name])
    }
    last = len(probed.blocks) - 1
    assert changed == {f"blocks.{last}.linear.weight", f"blocks.{last}.linear.bias"}
