"""REINFORCE: its gradient against exact enumeration, its baseline, its learning."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import Supernet
from hwnas.search.proxyless.reinforce import Reinforce, Reward, policy_loss
from hwnas.search.statistics import ema_update
from tests.support.tiny import MB33, tiny_batch, tiny_costs, tiny_space

PATHS = torch.tensor(list(product(range(3), range(2))))
"""All networks of two decisions, of three and of two candidates."""
MASK = torch.tensor([[True, True, True], [True, True, False]])
REWARDS = torch.tensor([0.3, 0.9, 0.5, 0.1, 0.7, 0.2], dtype=torch.float64)


def start() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, dtype=torch.float64, generator=generator, requires_grad=True)


def probs_of(logits: Tensor) -> Tensor:
    return logits.masked_fill(~MASK, -torch.inf).softmax(1)


def chances(probs: Tensor) -> Tensor:
    return probs[torch.arange(2), PATHS].prod(1)


def test_summed_over_all_networks_it_is_the_slope_of_the_expected_reward() -> None:
    logits = start()
    (exact,) = torch.autograd.grad((chances(probs_of(logits)) * REWARDS).sum(), logits)
    for baseline in (0.0, 0.6):  # a baseline changes nothing in the mean
        weights = chances(probs_of(logits)).detach() * (REWARDS - baseline) * len(PATHS)
        (estimate,) = torch.autograd.grad(policy_loss(probs_of(logits), PATHS, weights), logits)
        torch.testing.assert_close(-estimate, exact, rtol=1e-12, atol=1e-14)


def test_its_mean_over_samples_is_the_slope_of_the_expected_reward() -> None:
    logits, draws = start(), 40_000
    probs = probs_of(logits)
    (exact,) = torch.autograd.grad((chances(probs) * REWARDS).sum(), logits, retain_graph=True)
    drawn = torch.multinomial(
        chances(probs).detach(), draws, True, generator=torch.Generator().manual_seed(1)
    )
    loss = policy_loss(probs, PATHS[drawn], REWARDS[drawn] - 0.4)
    (estimate,) = torch.autograd.grad(loss, logits)
    # an advantage is below 0.5, a slope of a log-probability below 1
    assert (estimate + exact).abs().max() < 4 * 0.5 / draws**0.5 < exact.abs().max() / 5


def test_the_baseline_moves_by_the_weight_of_the_new_reward() -> None:
    assert ema_update(None, 0.5, 0.99) == 0.5
    assert ema_update(0.5, 0.7, 0.99) == pytest.approx(0.01 * 0.5 + 0.99 * 0.7)
    assert ema_update(0.5, 0.7, 0.1) == pytest.approx(0.9 * 0.5 + 0.1 * 0.7)


def searcher(
    costs: CostTable,
    budget_ms: float,
    objective: str = "mul#log",
    reward: Reward = "probability",
) -> Reinforce:
    space = tiny_space(MB33, MB33, MB33, widths=(16, 24))
    torch.manual_seed(0)
    supernet = Supernet(space, share_weights=False)
    for op in supernet.ops:  # equal candidates: only latency can choose
        for candidate in op.candidates:
            candidate.load_state_dict(op.candidates[0].state_dict())
    generator = torch.Generator().manual_seed(0)
    return Reinforce(supernet, costs, budget_ms, generator, 0.1, objective, reward=reward)


@pytest.mark.parametrize("objective", ["mul#log", "add#linear"])
def test_with_equal_ops_it_learns_the_fastest(objective: str) -> None:
    costs = CostTable(((3.0, 1.0, 9.0), (5.0, 4.0, 1.0)), 0.0)
    strategy = searcher(costs, 2.0, objective)
    for _ in range(60):
        strategy.architecture_step(tiny_batch())
    assert strategy.arch_logits.argmax(1).tolist() == [1, 2]
    assert strategy.probs.max(1).values.min() > 0.8


@pytest.mark.parametrize("reward", ["probability", "accuracy"])
def test_an_update_evaluates_ten_networks_and_changes_no_weight(reward: Reward) -> None:
    costs = tiny_costs(tiny_space(MB33, MB33, MB33, widths=(16, 24)))
    strategy = searcher(costs, 2.0, reward=reward)
    before = {name: value.clone() for name, value in strategy.weights.state_dict().items()}
    drawn: list[list[int]] = []
    sample = strategy._sample

    def recorded() -> list[int]:
        drawn.append(sample())
        return drawn[-1]

    strategy._sample = recorded
    log = strategy.architecture_step(tiny_batch())
    assert len(drawn) == strategy.networks == 10
    # all candidates are equal, so are the networks
    images, labels = tiny_batch()
    losses = F.cross_entropy(strategy._logits(images, drawn[:1])[0], labels, reduction="none")
    value = log.accuracy if reward == "accuracy" else (-losses).exp().mean().item()
    rewards = [value * (2.0 / strategy.costs.network_ms(path)) ** 0.1 for path in drawn]
    assert strategy.baseline == pytest.approx(sum(rewards) / 10)
    after = strategy.weights.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize(
    ("reward", "values"), [("accuracy", [0.5, 1.0]), ("probability", [0.55, 0.7])]
)
def test_a_network_is_rewarded_for_its_probabilities_of_the_labels_or_its_accuracy(
    reward: Reward, values: list[float]
) -> None:
    costs = tiny_costs(tiny_space(MB33, MB33, MB33, widths=(16, 24)))
    strategy = searcher(costs, 2.0, reward=reward)
    answers = torch.tensor([[[0.9, 0.1], [0.8, 0.2]], [[0.8, 0.2], [0.4, 0.6]]])
    assert strategy._values(answers.log(), torch.tensor([0, 1])) == pytest.approx(values)


def test_rewards_on_many_images_are_computed_in_parts_of_about_equal_size() -> None:
    strategy = searcher(tiny_costs(tiny_space(MB33, MB33, MB33, widths=(16, 24))), 2.0)
    images = torch.randn(251, *strategy.supernet.space.input_shape)
    sizes: list[int] = []
    strategy.supernet.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    path = strategy._sample()
    logits = strategy._logits(images, [path, path])
    assert sizes == [126, 125] * 2 and logits.shape[:2] == (2, 251)
    torch.testing.assert_close(logits[0, :126], strategy._logits(images[:126], [path])[0])
