"""Which of the trained networks within the budget is delivered."""

from __future__ import annotations

import pytest

from hwnas.specialize.steps.choice import delivered_result, most_accurate, standard_error
from hwnas.training.job import TrainingResult


def trained(accuracy: float, probability: float | None) -> TrainingResult:
    return TrainingResult("", accuracy, 0.1, 3, 5.0, label_probability=probability)


def test_of_two_networks_that_cannot_be_told_apart_the_higher_probability_wins() -> None:
    # the standard error of 76.4 % on 649 images is 1.7 points
    higher, lower = trained(0.764, 0.65), trained(0.750, 0.66)
    assert most_accurate([higher, lower], 649) == lower
    assert most_accurate([lower, higher], 649) == lower
    assert most_accurate([higher, lower], 20_000) == higher


def test_a_high_probability_does_not_make_up_for_a_lower_accuracy() -> None:
    higher, lower = trained(0.764, 0.65), trained(0.725, 0.70)
    assert most_accurate([lower, higher], 649) == higher


def test_results_of_runs_that_stored_no_probability_are_compared_by_accuracy() -> None:
    higher, lower = trained(0.764, None), trained(0.760, None)
    assert most_accurate([lower, higher], 649) == higher


def test_the_standard_error_is_that_of_a_share() -> None:
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert standard_error(0.764, 649) == pytest.approx(0.01667, abs=1e-5)


def test_a_whole_network_that_is_better_by_less_than_a_standard_error_is_not_delivered() -> None:
    whole, cut = trained(0.764, 0.666), trained(0.760, 0.650)
    assert delivered_result([cut], [whole], 649) is cut
    assert delivered_result([cut], [whole], 20_000) is whole


def test_a_whole_network_that_is_better_by_more_is_delivered() -> None:
    whole, cut = trained(0.764, 0.667), trained(0.760, 0.650)
    assert delivered_result([cut], [whole], 649) is whole


def test_a_cut_network_that_is_better_is_delivered() -> None:
    whole, worse, cut = trained(0.75, 0.64), trained(0.74, 0.60), trained(0.75, 0.65)
    assert delivered_result([worse, cut], [whole], 649) is cut


def test_where_nothing_was_searched_the_best_whole_network_is_delivered() -> None:
    results = [trained(0.75, 0.64), trained(0.76, 0.65)]
    assert delivered_result([], results, 649) is results[1]


def test_without_probabilities_accuracies_are_compared_in_the_same_way() -> None:
    whole, cut = trained(0.764, None), trained(0.750, None)
    assert delivered_result([cut], [whole], 649) is cut
    assert delivered_result([trained(0.740, None)], [whole], 649) is whole
