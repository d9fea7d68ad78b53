"""Latency in a search: expected latency, objectives, and the multiplier that enforces a budget."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.errors import UnknownName
from hwnas.search.objective import (
    OBJECTIVES,
    Hinge,
    Lagrangian,
    Linear,
    Log,
    expected_ms,
    objective,
    padded_costs,
    positive_log,
)
from tests.support.tiny import tiny_costs, tiny_space

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


def test_the_gradient_of_expected_latency_matches_finite_differences() -> None:
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


def test_the_multiplier_follows_the_budget_within_its_limits() -> None:
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


def swing(damping: float, share: float) -> float:
    """Return the greatest distance from the budget late in a search with Adam on noisy gradients.

    12 decisions with one slow candidate of 7, as a depthwise 7x7 is in LiteRT.
    """
    generator = torch.Generator().manual_seed(0)
    cost_ms = torch.tensor([1.0, 1.2, 9.0, 2.0, 2.3, 0.8, 0.0]).repeat(12, 1)
    noise = torch.randn(250, *cost_ms.shape, generator=generator)
    logits = torch.zeros_like(cost_ms, requires_grad=True)
    adam = torch.optim.Adam([logits], 0.1, betas=(0.0, 0.999))
    chosen, far = Lagrangian(share * 12 * 9, damping=damping), 0.0
    for step in range(len(noise)):
        probs = logits.softmax(dim=1)
        latency_ms = expected_ms(probs, cost_ms, 0.0)
        task_loss = ((0.05 * noise[0] + 0.1 * noise[step]) * probs).sum()
        adam.zero_grad()
        chosen.loss(task_loss, latency_ms).backward()
        adam.step()
        chosen.update(latency_ms.item())
        far = max(far, abs(latency_ms.item() / chosen.budget_ms - 1)) if step >= 100 else 0.0
    return far


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_the_expected_latency_does_not_swing_about_the_budget(share: float) -> None:
    damped = swing(Lagrangian(1.0).damping, share)
    assert damped < 0.2
    assert damped < swing(0.0, share) / 2


@pytest.mark.parametrize("preference", [0.0, 0.2])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_short_search_ends_at_its_budget_whatever_the_task_prefers(
    share: float, preference: float
) -> None:
    """94 steps, as in the effort ``quick``, over 10 decisions of which slower candidates are more
    accurate by ``preference`` a millisecond."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        cost_ms = torch.rand(10, 9, generator=generator).square() + 0.1
        cost_ms[:, 0] = 0.0
        logits = torch.zeros_like(cost_ms, requires_grad=True)
        adam = torch.optim.Adam([logits], 0.1, betas=(0.0, 0.999))
        chosen = Lagrangian(share * cost_ms.max(1).values.sum().item())
        for _ in range(94):
            noise = 0.1 * torch.randn(cost_ms.shape, generator=generator)
            probs = logits.softmax(dim=1)
            latency_ms = expected_ms(probs, cost_ms, 0.0)
            adam.zero_grad()
            task_loss = ((noise - preference * cost_ms) * probs).sum()
            chosen.loss(task_loss, latency_ms).backward()
            adam.step()
            chosen.update(latency_ms.item())
        end_ms = expected_ms(logits.softmax(dim=1), cost_ms, 0.0).item()
        assert end_ms / chosen.budget_ms == pytest.approx(1.0, abs=0.06)


def logits_and_loss(name: str, detached: bool) -> tuple[Tensor, Tensor]:
    """Return the gradient of the logits, and the logits, for an objective over its budget."""
    costs = tiny_costs(SPACE)
    cost_ms, mask = padded_costs(costs)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(mask.shape, dtype=torch.float64, generator=generator, requires_grad=True)
    probs = logits.masked_fill(~mask, -torch.inf).softmax(dim=1)
    latency_ms = expected_ms(probs, cost_ms.double(), costs.fixed_ms)
    chosen = objective(name, budget_ms=0.8 * latency_ms.item())
    chosen.multiplier = chosen.multiplier or 0.5
    entered_ms = latency_ms.detach() if detached else latency_ms
    task_loss = torch.tensor(1.5, dtype=torch.float64) + 0 * logits.sum()
    return torch.autograd.grad(chosen.loss(task_loss, entered_ms), logits)[0], logits


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_latency_gradient_reaches_the_logits_unless_detached(name: str) -> None:
    """dE/dalpha_i is p_i * (cost_i - E of its decision), times a positive number."""
    gradient, logits = logits_and_loss(name, detached=False)
    cost_ms, mask = padded_costs(tiny_costs(SPACE))
    probs = logits.detach().masked_fill(~mask, -torch.inf).softmax(dim=1)
    closed = probs * (cost_ms.double() - (probs * cost_ms.double()).sum(1, keepdim=True))
    factor = (gradient * closed).sum() / closed.square().sum()
    assert factor > 1e-3
    torch.testing.assert_close(gradient, factor * closed, rtol=1e-9, atol=1e-12)
    # the widely copied mistake: probabilities wrapped into a new tensor, which cuts the graph
    assert torch.count_nonzero(logits_and_loss(name, detached=True)[0]) == 0


def test_the_objectives_are_their_formulas() -> None:
    task_loss, over_ms, under_ms = torch.tensor(2.0), torch.tensor(100.0), torch.tensor(60.0)
    assert Linear(80).loss(task_loss, over_ms).item() == pytest.approx(2 + 0.1 * 0.25)
    assert Linear(80).loss(task_loss, under_ms).item() == pytest.approx(2 - 0.1 * 0.25)
    assert Hinge(80).loss(task_loss, over_ms).item() == pytest.approx(2.25)
    assert Hinge(80).loss(task_loss, under_ms).item() == 2
    logged = 0.2 * 2 * (math.log(100) / math.log(80)) ** 0.3
    assert Log(80).loss(task_loss, over_ms).item() == pytest.approx(logged)
    risen = Lagrangian(80, rate=0.1, damping=3.0)
    assert risen.loss(task_loss, over_ms).item() == pytest.approx(2 + 3 * 0.25 * 0.25)
    risen.update(100)
    assert risen.multiplier == pytest.approx(0.1 * 0.25)
    assert risen.loss(task_loss, over_ms).item() == pytest.approx(2 + (0.025 + 0.75) * 0.25)
    assert risen.loss(task_loss, torch.tensor(240.0)).item() == pytest.approx(2 + 2 * 2)


def test_the_rewards_are_their_formulas() -> None:
    assert Log(80).reward(0.7, 100) == pytest.approx(0.7 * 0.8**0.1)
    assert Log(80, reward_exponent=0.07).reward(0.7, 40) == pytest.approx(0.7 * 2**0.07)
    assert Linear(80).reward(0.7, 100) == pytest.approx(0.7 - 0.1 * 0.25)
    assert Hinge(80).reward(0.7, 100) == pytest.approx(0.7 - 0.25)
    assert Hinge(80).reward(0.7, 79) == Lagrangian(80).reward(0.7, 79) == 0.7
    for name in OBJECTIVES:
        chosen = objective(name, 80)
        assert chosen.reward(0.7, 80) == pytest.approx(0.7), name


def test_mul_log_is_positive_and_rises_with_latency_below_one_millisecond_too() -> None:
    latencies_ms = torch.logspace(-4, 4, 400, dtype=torch.float64, requires_grad=True)
    for budget_ms in (0.01, 0.9, 1.0, 80.0):
        losses = Log(budget_ms).loss(torch.ones(()), latencies_ms)
        (slope,) = torch.autograd.grad(losses.sum(), latencies_ms)
        assert losses.isfinite().all() and (losses > 0).all() and (slope > 0).all()


def test_the_positive_logarithm_is_the_logarithm_from_e_on_and_smooth_there() -> None:
    x = torch.tensor([math.e - 1e-6, math.e, math.e + 1e-6, 10], dtype=torch.float64)
    x.requires_grad_()
    y = positive_log(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(y[1:], x[1:].log())
    torch.testing.assert_close(slope, 1 / x, rtol=1e-6, atol=0)


def test_an_unknown_objective_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'add#linear'"):
        objective("add-linear", 80)


def test_expected_latency_is_the_mean_of_sampled_networks() -> None:
    costs = tiny_costs(SPACE)
    cost_ms, mask = padded_costs(costs)
    noise = torch.randn(mask.shape, generator=torch.Generator().manual_seed(2))
    probs = noise.masked_fill(~mask, -torch.inf).softmax(dim=1)
    paths = torch.multinomial(probs, 100_000, True, generator=torch.Generator().manual_seed(3))
    sampled_ms = costs.networks_ms(paths.T.numpy())
    error_ms = float(np.std(sampled_ms)) / math.sqrt(len(sampled_ms))
    expected = expected_ms(probs, cost_ms, costs.fixed_ms).item()
    assert sampled_ms.mean() == pytest.approx(expected, abs=4 * error_ms)
    assert error_ms < 0.01
