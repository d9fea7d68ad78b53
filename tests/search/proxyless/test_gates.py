"""The estimators of ProxylessNAS against finite differences, and the two-path update."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from hwnas.nn.supernet import Supernet
from hwnas.search.objective import Linear
from hwnas.search.proxyless.gates import apply_gate, draw_pairs, rescale_pairs
from hwnas.search.proxyless.gradient import ProxylessGradient
from tests.support.tiny import tiny_batch, tiny_costs, tiny_space

SPACE = tiny_space(widths=(8, 16, 16))
"""Three decisions of 5, 4 and 5 candidates."""


class Affine(nn.Module):
    """A decision of linear candidates: the loss below is linear in each decision's gates."""

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 3, 3, padding=1) for _ in range(candidates))

    def __len__(self) -> int:
        return len(self.convs)

    def forward(self, x: Tensor, choice: int) -> Tensor:
        return self.convs[choice](x)


def linear_supernet() -> tuple[list[Affine], Tensor, Callable[[Tensor], Tensor]]:
    """Return two decisions, an input, and a loss that is linear in the output."""
    torch.manual_seed(0)
    ops = [Affine(3).double(), Affine(3).double()]
    slope = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    return ops, torch.randn(2, 3, 5, 5, dtype=torch.float64), lambda y: (slope * y).sum()


def test_the_estimators_mean_over_paths_is_the_slope_of_the_expected_loss() -> None:
    """Summed over all paths with their probabilities; against finite differences."""
    ops, images, loss = linear_supernet()
    logits = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    @torch.no_grad()
    def expected_loss(at: Tensor) -> float:
        probs = at.softmax(1)
        total = 0.0
        for a, b in product(range(3), repeat=2):
            total += (probs[0, a] * probs[1, b] * loss(ops[1](ops[0](images, a), b))).item()
        return total

    estimate = torch.zeros(2, 3, dtype=torch.float64)
    for path in product(range(3), repeat=2):
        probs = logits.softmax(1)
        y = images
        for place, (op, active) in enumerate(zip(ops, path, strict=True)):
            y = apply_gate(probs, None, place, op, y, active)
        chance = (probs[0, path[0]] * probs[1, path[1]]).item()
        estimate += chance * torch.autograd.grad(loss(y), logits)[0]
    step = 1e-6
    for place in product(range(2), range(3)):
        nudge = torch.zeros_like(estimate)
        nudge[place] = step
        at = logits.detach()
        slope = (expected_loss(at + nudge) - expected_loss(at - nudge)) / (2 * step)
        assert abs(slope) > 1e-3
        assert estimate[place].item() == pytest.approx(slope, rel=1e-6)


def two_paths(double: bool = True) -> ProxylessGradient:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    strategy = ProxylessGradient(
        Supernet(SPACE), tiny_costs(SPACE), 1.5, generator, 0.1, estimator="two"
    )
    noise = torch.randn(strategy.mask.shape, generator=generator)
    with torch.no_grad():
        for module in strategy.supernet.modules():  # no residual branch stays silent
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
    if double:
        strategy.supernet.double()
        strategy.arch_logits.data = noise.double()
        strategy.cost_ms = strategy.cost_ms.double()
    return strategy


def test_a_step_of_two_paths_changes_two_probabilities_per_decision() -> None:
    strategy = two_paths()
    images, labels = tiny_batch()
    for _ in range(8):
        before = strategy.probs.detach()
        strategy.architecture_step((images.double(), labels))
        change = strategy.probs.detach() - before
        # 1e-12: rounding only
        assert change.sum(1).abs().max() < 1e-12
        assert ((change.abs() > 1e-12).sum(1) == 2).all()


def test_rescaling_keeps_the_joint_mass_of_the_pair_and_the_order_within_it() -> None:
    generator = torch.Generator().manual_seed(0)
    before, change = (torch.randn(6, 5, dtype=torch.float64, generator=generator) for _ in range(2))
    pairs = draw_pairs(before.softmax(1), generator)
    after = before.scatter_add(1, pairs, change.gather(1, pairs))
    result = rescale_pairs(before, after, pairs)
    masses = [logits.softmax(1).gather(1, pairs).sum(1) for logits in (before, result)]
    assert (masses[0] - masses[1]).abs().max() < 1e-12
    outside = torch.ones_like(before, dtype=torch.bool).scatter(1, pairs, False)
    difference = result.softmax(1) - before.softmax(1)
    assert difference[outside].abs().max() < 1e-12
    inside, wanted = result.gather(1, pairs), after.gather(1, pairs)
    torch.testing.assert_close(inside.diff(dim=1), wanted.diff(dim=1))


def test_pairs_are_different_candidates_drawn_by_their_probability() -> None:
    probs = torch.tensor([[0.7, 0.2, 0.1, 0.0]]).repeat(4000, 1)
    pairs = draw_pairs(probs, torch.Generator().manual_seed(0))
    assert (pairs[:, 0] != pairs[:, 1]).all() and pairs.max() == 2
    first = torch.bincount(pairs[:, 0], minlength=3) / 4000
    torch.testing.assert_close(first, torch.tensor([0.7, 0.2, 0.1]), atol=0.03, rtol=0)


def test_a_decision_of_one_candidate_has_nothing_to_learn() -> None:
    alone = draw_pairs(torch.tensor([[0.0, 1.0]]), torch.Generator())
    assert alone.tolist() == [[1, 1]]
    logits = torch.tensor([[0.3, 0.7]])
    assert torch.equal(rescale_pairs(logits, logits, alone), logits)


def test_the_gradient_of_two_paths_is_the_formula_of_these_two() -> None:
    """``dL/dalpha_i = sum_j dL/dg_j q_j (delta_ij - q_i)``; the latency's is q_i (c_i - E_q)."""
    strategy, (images, labels) = two_paths(), tiny_batch()
    strategy.objective = Linear(strategy.objective.budget_ms, 0.7)
    probs, start = strategy.probs.detach(), strategy.arch_logits.detach().clone()
    pairs = draw_pairs(probs, torch.Generator().manual_seed(5))
    path = pairs[:, 1].tolist()
    gates = torch.zeros_like(probs).scatter_(1, pairs[:, 1:], 1.0).requires_grad_()

    def mix(place: int, op: nn.Module, x: Tensor, active: int) -> Tensor:
        return torch.stack([gates[place, j] * op(x, j) for j in range(len(op))]).sum(0)  # type: ignore[arg-type]

    logits = strategy.supernet.train()(images.double(), path, mix)
    dl_dg = torch.autograd.grad(nn.functional.cross_entropy(logits, labels), gates)[0]
    dl_dg = dl_dg + 0.7 / 1.5 * strategy.cost_ms
    q = start.gather(1, pairs).softmax(1)
    of_pair = dl_dg.gather(1, pairs)
    expected = torch.zeros_like(probs).scatter(
        1, pairs, q * (of_pair - (q * of_pair).sum(1, keepdim=True))
    )
    strategy.generator.manual_seed(5)  # draws the same pairs
    strategy._active = lambda pairs, probs: path
    strategy.architecture_step((images.double(), labels))
    assert strategy.arch_logits.grad is not None and expected.abs().max() > 1e-3
    torch.testing.assert_close(strategy.arch_logits.grad, expected, rtol=1e-9, atol=1e-13)
