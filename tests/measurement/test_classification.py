"""Top-5 and balanced accuracy, on small examples computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.measurement.classification import (
    balanced_accuracy,
    chance_note,
    class_accuracies,
    packed_hits,
    top5_accuracy,
)


def test_a_label_counts_as_right_if_it_is_among_the_five_largest_of_twenty() -> None:
    logits = np.tile(np.arange(20.0), (4, 1))
    assert top5_accuracy(logits, np.array([19, 15, 14, 0])) == 0.5


def test_below_twenty_classes_there_is_no_top_5_accuracy() -> None:
    assert top5_accuracy(np.zeros((3, 19)), np.zeros(3, int)) is None


def test_balanced_accuracy_is_the_mean_of_the_classes_own_accuracies() -> None:
    labels = np.array([0] * 8 + [2] * 2)  # no image has class 1
    predicted = np.array([0] * 8 + [2, 0])
    assert balanced_accuracy(predicted, labels) == pytest.approx((1.0 + 0.5) / 2)


def test_a_class_has_the_accuracy_of_its_own_images_or_none() -> None:
    labels = np.array([0] * 8 + [2] * 2)
    predicted = np.array([0] * 8 + [2, 0])
    assert class_accuracies(predicted, labels, 4) == (1.0, None, 0.5, None)


@pytest.mark.parametrize(("largest", "reported"), [(14, False), (15, True)])
def test_it_is_reported_from_a_ratio_of_one_and_a_half_on(largest: int, reported: bool) -> None:
    labels = np.array([0] * largest + [1] * 10)
    assert (balanced_accuracy(labels, labels) is not None) == reported


def test_a_network_is_not_better_than_chance_within_the_error_of_its_accuracy() -> None:
    labels = np.array([0] * 600 + [1] * 400)  # the error is 3 points
    assert chance_note(0.64, labels) == ""
    note = chance_note(0.62, labels, "agreement")
    assert "not better than chance: 62.0% agreement on 1,000 " in note and "60.0% are" in note
    assert chance_note(0.3, labels), "worse than chance"
    assert chance_note(1.0, labels * 0) == "", "a single class is no choice"


def test_the_hits_of_images_are_bits_from_the_highest() -> None:
    labels = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])
    assert packed_hits(labels, labels) == "ff80"
    assert packed_hits(np.array([0, 0, 2, 3, 0, 5, 6, 0, 0]), labels) == "b600"
