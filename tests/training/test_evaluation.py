"""Evaluation of networks whose logits are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwnas.training.evaluation import accuracy, evaluate, label_probability
from hwnas.training.images.loader import Data
from tests.support.tiny import tiny_data


class Constant(nn.Module):
    """Gives the same logits for each image."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


def labelled(labels: Tensor) -> Data:
    return tiny_data(len(labels))._replace(labels=labels)


def test_a_network_that_names_one_class_has_its_share_and_the_five_largest_theirs() -> None:
    data, network = labelled(torch.arange(500) % 25), Constant(torch.arange(25.0))
    result = evaluate(network, data)
    assert result.accuracy == accuracy(network, data) == pytest.approx(1 / 25)
    assert result.top5_accuracy == pytest.approx(5 / 25)
    assert result.balanced_accuracy is None


def test_where_one_class_is_frequent_its_share_is_not_the_balanced_accuracy() -> None:
    labels = torch.tensor([0] * 9 + [1])
    result = evaluate(Constant(torch.tensor([1.0, 0.0])), labelled(labels))
    assert result.accuracy == 0.9
    assert result.balanced_accuracy == 0.5
    assert result.top5_accuracy is None


def test_the_label_probability_does_not_depend_on_how_confident_a_network_is() -> None:
    torch.manual_seed(0)
    labels = torch.randint(5, (200,))
    logits = torch.randn(200, 5) + 2 * nn.functional.one_hot(labels, 5)
    expected = label_probability(logits, labels)
    assert label_probability(3 * logits, labels) == pytest.approx(expected, abs=1e-3)
    assert label_probability(logits / 3, labels) == pytest.approx(expected, abs=1e-3)


def test_of_labels_drawn_by_a_networks_probabilities_it_is_their_mean_square() -> None:
    torch.manual_seed(0)
    probabilities = torch.randn(20_000, 5).softmax(1)
    labels = torch.multinomial(probabilities, 1)[:, 0]
    expected = probabilities.square().sum(1).mean().item()
    assert label_probability(8 * probabilities.log(), labels) == pytest.approx(expected, abs=0.01)


def test_the_label_probability_of_logits_without_information_is_that_of_chance() -> None:
    labels = torch.arange(100) % 4
    assert label_probability(torch.zeros(100, 4), labels) == pytest.approx(1 / 4)
