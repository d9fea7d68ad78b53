"""With class weights every class counts equally, whatever its number of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from hwnas.training.losses import balanced_weights, cross_entropy

LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2])


def test_the_weights_of_all_classes_images_are_alike_and_of_mean_1() -> None:
    weights = balanced_weights(LABELS, 3)
    totals = weights * LABELS.bincount()
    torch.testing.assert_close(totals, torch.full((3,), 3.0))
    torch.testing.assert_close(weights[LABELS].mean(), torch.tensor(1.0))


def test_classes_without_images_do_not_count() -> None:
    assert balanced_weights(torch.tensor([0, 0, 2, 2]), 4)[[0, 2]].tolist() == [1, 1]


def test_a_balanced_loss_is_the_mean_of_the_classes_losses() -> None:
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    losses = F.cross_entropy(logits, LABELS, reduction="none")
    expected = torch.stack([losses[label == LABELS].mean() for label in range(3)]).mean()
    weights = balanced_weights(LABELS, 3)
    torch.testing.assert_close(cross_entropy(logits, LABELS, 0.0, weights), expected)
    mixed = F.one_hot(LABELS, 3).float()
    torch.testing.assert_close(cross_entropy(logits, mixed, 0.0, weights), expected)


def test_equal_classes_have_the_plain_loss() -> None:
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
    weighted = cross_entropy(logits, labels, 0.1, balanced_weights(labels, 3))
    torch.testing.assert_close(weighted, cross_entropy(logits, labels, 0.1, None))
