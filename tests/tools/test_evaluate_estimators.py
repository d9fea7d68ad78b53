"""Estimators of the architecture gradient, against autograd and against each other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from tools.evaluate.cells.gradients import paired_table
from tools.evaluate.cells.true_slopes import KINDS, Comparison
from tools.evaluate.exhaustive.gradients.estimators import (
    accumulated_cosine,
    decision_gradients,
    exact_gradient,
    policy_gradients,
    summary,
)
from tools.evaluate.exhaustive.gradients.instruments import SearchEnd, paired_rows

CHOICES = np.array(list(product(range(2), range(3))))
LOSSES = np.array([0.3, 0.9, 0.5, 0.1, 0.7, 0.2])


def test_the_exact_gradient_is_that_of_the_expected_loss() -> None:
    logits = [torch.zeros(size, dtype=torch.float64, requires_grad=True) for size in (2, 3)]
    first, second = (row.softmax(0) for row in logits)
    joint = (first[:, None] * second[None]).flatten()
    gradients = torch.autograd.grad(joint @ torch.tensor(LOSSES), logits)
    np.testing.assert_allclose(
        exact_gradient(CHOICES, LOSSES), np.concatenate([each.numpy() for each in gradients])
    )


@pytest.mark.parametrize("name", ["decisions", "policy"])
def test_the_mean_of_an_estimator_is_the_exact_gradient(name: str) -> None:
    rng, losses = np.random.default_rng(0), np.stack([LOSSES - 0.1, LOSSES + 0.1], 1)
    if name == "decisions":
        drawn = decision_gradients(CHOICES, losses, 4000, rng)
    else:  # the baseline includes each network itself, which takes a fifth off
        drawn = policy_gradients(CHOICES, losses, 5, 20_000, rng) / 0.8
    np.testing.assert_allclose(drawn.mean(0), exact_gradient(CHOICES, LOSSES), atol=0.01)


def test_a_sum_of_losses_of_decisions_has_no_noise() -> None:
    """What a decision adds does not depend on the others then."""
    losses = (np.array([0.0, 1.0])[:, None] + np.array([0.0, 2.0, 5.0])[None]).reshape(6, 1)
    drawn = decision_gradients(CHOICES, losses, 50, np.random.default_rng(0))
    np.testing.assert_allclose(drawn, np.repeat(exact_gradient(CHOICES, losses[:, 0])[None], 50, 0))


def test_the_summary_of_draws_with_a_known_mean_and_noise() -> None:
    rng = np.random.default_rng(0)
    exact, mean = np.array([1.0, 0.0]), np.array([0.6, 0.8])
    line = summary("some", 0, "1", mean + rng.normal(size=(40_000, 2)) / np.sqrt(2), exact)
    assert line.cosine == pytest.approx(0.6, abs=0.02)
    assert line.signal == pytest.approx(1.0, abs=0.02)
    # the mean of 3 draws has the noise 1 / 3, the signal 1
    assert accumulated_cosine(line, 3) == pytest.approx(0.6 * (3 / 4) ** 0.5, abs=0.02)


def test_pairs_of_searches_are_compared_seed_by_seed() -> None:
    end = SearchEnd(*[0.0] * len(SearchEnd._fields))._replace(tau_supernet=0.2)
    figures = [[(0.1, 0.5), (0.3, 0.9)], [(0.2, 0.4), (0.6, 0.6)]]
    ends = [
        [end._replace(tau_truth=tau, regret_probable=regret) for tau, regret in each]
        for each in figures
    ]
    assert paired_rows(ends) == [
        ["tau with the truth", "0.20", "0.40", "+0.20 ± 0.10"],
        ["tau with its own supernet", "0.20", "0.20", "+0.00 ± 0.00"],
        ["regret, points", "0.70", "0.50", "-0.20 ± 0.10"],
    ]


def test_gradients_are_compared_with_the_first_order_on_the_same_batches() -> None:
    falls = {"first order": (0.5, 0.7), "exact product": (0.6, 1.0)}
    rows = [
        Comparison(point, kind, 0.0, 0.0, falls.get(kind, (0.5, 0.7))[point], 1.0, 2.0)
        for point in (0, 1)
        for kind in KINDS
    ]
    lines = paired_table(rows, 4).splitlines()
    assert "| exact product | 2 | +0.2000 ± 0.1000 | +0.0000 ± 0.0000 | +0.0000 ± 0.0000 |" in lines
    assert "| difference, radius 0.1 | 2 | +0.0000 ± 0.0000 |" in "\n".join(lines)
    assert all("first order" not in line for line in lines)
