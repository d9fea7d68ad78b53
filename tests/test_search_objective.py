"""How latency enters the loss: the expected latency, and the multiplier that holds a budget."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.search.objective import Lagrangian, expected_ms, padded_costs
from tests.tiny import tiny_costs, tiny_space

SPACE = tiny_space(widths=(8, 16, 16))
"""Three decisions of 5, 4 and 5 candidates."""
SKIP = 4


def test_expected_latency_of_certain_choices_is_the_tables() -> None:
    costs = tiny_costs(SPACE)
    cost_ms, mask = padded_costs(costs)
    for choices in ((0, 1, 2), (SKIP, 3, SKIP)):
        probs = F.one_hot(torch.tensor(choices), mask.shape[1]).float()
        latency_ms = expected_ms(probs, cost_ms, costs.fixed_ms).item()
        assert latency_ms == pytest.approx(costs.network_ms(choices))


def test_the_gradient_of_expected_latency_is_the_cost_table() -> None:
    costs = tiny_costs(SPACE)
    cost_ms, mask = padded_costs(costs)
    probs = (mask / mask.sum(1, keepdim=True)).requires_grad_()
    expected_ms(probs, cost_ms, costs.fixed_ms).backward()
    torch.testing.assert_close(probs.grad, cost_ms)


def test_the_slope_of_expected_latency_in_the_logits_is_that_of_finite_differences() -> None:
    costs = tiny_costs(SPACE)
    cost_ms, mask = padded_costs(costs)

    def latency_ms(logits: Tensor) -> Tensor:
        probs = logits.masked_fill(~mask, -torch.inf).softmax(dim=1)
        return expected_ms(probs, cost_ms.double(), costs.fixed_ms)

    generator, step = torch.Generator().manual_seed(0), 1e-5
    start = torch.randn(mask.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    (slope,) = torch.autograd.grad(latency_ms(start), start)
    assert (slope.abs() > 1e-3).sum() > 10
    for place in mask.nonzero().tolist():
        nudge = torch.zeros_like(start)
        nudge[tuple(place)] = step
        rise = (latency_ms(start + nudge) - latency_ms(start - nudge)).item() / (2 * step)
        assert slope[tuple(place)].item() == pytest.approx(rise, rel=1e-6, abs=1e-9)


def test_the_multiplier_rises_over_the_budget_falls_under_it_and_stays_in_its_limits() -> None:
    objective = Lagrangian(budget_ms=10, rate=0.1, limit=2)
    objective.update(15)
    assert objective.multiplier == pytest.approx(0.05)
    objective.update(10)
    assert objective.multiplier == pytest.approx(0.05)
    objective.update(0)
    assert objective.multiplier == pytest.approx(-0.05)
    for latency_ms, end in ((1e4, 2.0), (0.0, -2.0)):
        for _ in range(50):
            objective.update(latency_ms)
        assert objective.multiplier == end


@pytest.mark.parametrize("wanted_ms", [6.0, 9.0, 11.0, 14.0])
def test_the_expected_latency_settles_at_the_budget_from_both_sides(wanted_ms: float) -> None:
    """A task that would like ``wanted_ms`` gets the budget of 10 ms, within 2 %."""
    objective, latency_ms = Lagrangian(budget_ms=10), torch.tensor([wanted_ms], requires_grad=True)
    descent = torch.optim.SGD([latency_ms], lr=0.5)
    for _ in range(3000):
        descent.zero_grad()
        task_loss = 0.02 * (latency_ms - wanted_ms).square().sum()
        objective.loss(task_loss, latency_ms.sum()).backward()
        descent.step()
        objective.update(latency_ms.item())
    assert latency_ms.item() == pytest.approx(10, rel=0.02)
    assert (objective.multiplier > 0) == (wanted_ms > 10)
