"""Projections with fewer inputs: the least error, at every width of the same order."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from hwnas.nn.elastic.importance import activation, l1, most_important, variance
from hwnas.nn.elastic.projection import (
    cut_projection,
    elimination_order,
    mean_shift,
)

OUTPUTS, INPUTS, PIXELS = 5, 12, 400


@pytest.fixture
def inputs() -> Tensor:
    """Correlated positive inputs ``[pixels, inputs]``, as activations are."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(PIXELS, 6, generator=generator, dtype=torch.float64)
    mixing = torch.randn(6, INPUTS, generator=generator, dtype=torch.float64)
    noise = torch.randn(PIXELS, INPUTS, generator=generator, dtype=torch.float64)
    return (factors @ mixing + 0.3 * noise + 1).relu()


@pytest.fixture
def projection() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(OUTPUTS, INPUTS, generator=generator, dtype=torch.float64)


def squared_error(projection: Tensor, cut: Tensor, covariance: Tensor, channels: Tensor) -> float:
    """Return ``E|P' a_K - P a|^2`` beside the mean, summed over the outputs."""
    difference = projection.clone()
    difference[:, channels] -= cut
    return ((difference @ covariance) * difference).sum().item()


def error(inputs: Tensor, projection: Tensor, channels: Tensor, ridge: float = 1e-4) -> float:
    covariance = torch.cov(inputs.T, correction=0)
    cut = cut_projection(projection, covariance, channels, ridge)
    return squared_error(projection, cut, covariance, channels)


def test_the_cut_projection_is_the_least_squares_fit_to_the_outputs(
    inputs: Tensor, projection: Tensor
) -> None:
    channels = torch.tensor([0, 2, 3, 7, 8])
    covariance, mean = torch.cov(inputs.T, correction=0), inputs.mean(0)
    cut = cut_projection(projection, covariance, channels, ridge=1e-12)
    shift = mean_shift(projection, cut, mean, channels)
    design = torch.cat((inputs[:, channels], torch.ones(PIXELS, 1, dtype=torch.float64)), dim=1)
    fit = torch.linalg.lstsq(design, inputs @ projection.T).solution
    torch.testing.assert_close(cut, fit[:-1].T, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(-shift, fit[-1], atol=1e-6, rtol=1e-6)
    residual = (design @ fit - inputs @ projection.T).square().sum(1).mean().item()
    assert squared_error(projection, cut, covariance, channels) == pytest.approx(residual)


def test_the_outputs_have_the_same_mean_as_before(inputs: Tensor, projection: Tensor) -> None:
    channels, mean = torch.tensor([1, 4, 6]), inputs.mean(0)
    cut = cut_projection(projection, torch.cov(inputs.T), channels)
    outputs = inputs[:, channels] @ cut.T - mean_shift(projection, cut, mean, channels)
    torch.testing.assert_close(outputs.mean(0), (inputs @ projection.T).mean(0))


def test_the_error_is_at_most_that_of_the_plain_cut_with_any_ridge(
    inputs: Tensor, projection: Tensor
) -> None:
    covariance = torch.cov(inputs.T, correction=0)
    for ridge in (1e-6, 1e-2, 1.0, 100.0):
        for channels in combinations(range(0, INPUTS, 2), 3):
            index = torch.tensor(channels)
            plain = squared_error(projection, projection[:, index], covariance, index)
            assert error(inputs, projection, index, ridge) <= plain


def test_a_large_ridge_gives_the_plain_cut(inputs: Tensor, projection: Tensor) -> None:
    channels = torch.tensor([0, 5])
    cut = cut_projection(projection, torch.cov(inputs.T), channels, ridge=1e12)
    torch.testing.assert_close(cut, projection[:, channels])


def test_all_inputs_keep_their_weights_to_the_bit(inputs: Tensor, projection: Tensor) -> None:
    cut = cut_projection(projection, torch.cov(inputs.T), torch.arange(INPUTS))
    assert torch.equal(cut, projection)


def test_the_error_falls_along_the_nested_sets_of_one_order(
    inputs: Tensor, projection: Tensor
) -> None:
    order = elimination_order(projection, torch.cov(inputs.T))
    assert sorted(order.tolist()) == list(range(INPUTS))
    errors = [error(inputs, projection, order[:width]) for width in range(1, INPUTS + 1)]
    assert errors == sorted(errors, reverse=True) and errors[-1] == 0
    assert errors[0] > 100 * errors[-2] > 0


def test_each_elimination_is_the_best_single_removal(inputs: Tensor, projection: Tensor) -> None:
    order = elimination_order(projection, torch.cov(inputs.T, correction=0), ridge=1e-9)
    for width in range(1, INPUTS):
        larger = order[: width + 1].tolist()
        sets = [torch.tensor([c for c in larger if c != gone]) for gone in larger]
        best = min(error(inputs, projection, channels, 1e-9) for channels in sets)
        assert error(inputs, projection, order[:width], 1e-9) == pytest.approx(best, rel=1e-6)


def test_each_elimination_of_a_group_is_the_best_removal_of_one(
    inputs: Tensor, projection: Tensor
) -> None:
    covariance, width = torch.cov(inputs.T, correction=0), 3
    order = elimination_order(projection, covariance, width, ridge=1e-9).view(-1, width)
    assert [group.tolist() for group in order.sort(dim=0).values] == [
        list(range(start, start + width)) for start in range(0, INPUTS, width)
    ]
    for count in range(1, len(order)):
        larger = range(count + 1)
        sets = [torch.cat([order[g] for g in larger if g != gone]) for gone in larger]
        best = min(error(inputs, projection, channels, 1e-9) for channels in sets)
        channels = order[:count].flatten()
        assert error(inputs, projection, channels, 1e-9) == pytest.approx(best, rel=1e-6)


def test_elimination_leaves_less_error_than_orders_by_importance(
    inputs: Tensor, projection: Tensor
) -> None:
    covariance, mean = torch.cov(inputs.T), inputs.mean(0)
    scores = (
        l1(projection.T),
        activation(projection, mean, covariance),
        variance(projection, covariance),
    )
    order = elimination_order(projection, covariance)

    def total_error(sets: list[Tensor]) -> float:
        return sum(error(inputs, projection, channels) for channels in sets)

    ours = total_error([order[:width] for width in range(1, INPUTS)])
    for score in scores:
        sorted_sets = [most_important(score, width) for width in range(1, INPUTS)]
        assert ours < 0.9 * total_error(sorted_sets)


def test_dead_and_copied_inputs_go_first(inputs: Tensor, projection: Tensor) -> None:
    inputs = torch.cat((inputs, torch.full((PIXELS, 1), 3.0).double(), inputs[:, :1]), dim=1)
    projection = torch.cat((projection, projection[:, 3:5]), dim=1)
    covariance = torch.cov(inputs.T)
    order = elimination_order(projection, covariance, ridge=1e-9).tolist()
    assert order[-1] == INPUTS and {0, INPUTS + 1} & set(order[-2:])
    left = torch.tensor(order[:INPUTS])
    plain = squared_error(projection, projection[:, left], covariance, left)
    assert error(inputs, projection, left, 1e-9) < 1e-6 * plain


def test_constant_inputs_alone_can_be_ordered_and_cut(projection: Tensor) -> None:
    zeros = torch.zeros(INPUTS, INPUTS, dtype=torch.float64)
    order = elimination_order(projection, zeros)
    assert torch.equal(cut_projection(projection, zeros, order[:4]), projection[:, order[:4]])


def test_importance_by_hand() -> None:
    weights = torch.tensor([[3.0, 0.0, -1.0], [4.0, 2.0, 0.0]], dtype=torch.float64)
    mean = torch.tensor([0.0, 3.0, 0.0], dtype=torch.float64)
    covariance = torch.diag(torch.tensor([4.0, 16.0, 9.0], dtype=torch.float64))
    assert l1(weights.T).tolist() == [7, 2, 1]
    assert variance(weights, covariance).tolist() == [2 * 5, 4 * 2, 3 * 1]
    assert activation(weights, mean, covariance).tolist() == [2 * 5, 5 * 2, 3 * 1]
    assert most_important(torch.tensor([1.0, 3.0, 3.0, 2.0]), 2).tolist() == [1, 2]
