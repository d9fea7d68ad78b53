"""The meta-controller: its decisions, their probabilities, and its learning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from hwnas.errors import UsageError
from hwnas.search.eas.controller import Choose, Controller, Trajectory, grow, sampling
from hwnas.search.eas.reward import Baseline, Learner, growth_loss, reward
from hwnas.spaces.grown.chain import chain
from hwnas.spaces.grown.densenet import densenet
from hwnas.spaces.grown.mobile import growable
from hwnas.spaces.grown.space import GrownSpace, Layer, Layers, Place
from hwnas.spaces.grown.steps import (
    Step,
    apply_step,
    deeper_steps,
    sentence,
    smaller_steps,
    vocabulary,
    wider_step,
)
from hwnas.spaces.mobile.space import mobile_space
from hwnas.training.seeds import seeded
from tests.support.networks.grown import small_space

SPACE = small_space()
START = SPACE.layers(SPACE.start)


def always(layers: Layers) -> bool:
    return True


def tiny_controller(space: GrownSpace = SPACE, seed: int = 0) -> Controller:
    torch.manual_seed(seed)
    return Controller(space, embedding=3, units=2).double()


def every(run: Callable[[Choose], Trajectory]) -> Iterator[Trajectory]:
    """Yield the trajectory of every sequence of decisions."""
    waiting: list[list[int]] = [[]]
    while waiting:
        fixed, taken, widths = waiting.pop(), [], []

        def choose(
            probs: Tensor,
            fixed: list[int] = fixed,
            taken: list[int] = taken,
            widths: list[int] = widths,
        ) -> int:
            taken.append(fixed[len(taken)] if len(taken) < len(fixed) else 0)
            widths.append(len(probs))
            return taken[-1]

        yield run(choose)
        waiting += [
            [*taken[:place], other]
            for place in range(len(fixed), len(taken))
            for other in range(1, widths[place])
        ]


def runner(
    controller: Controller,
    allowed: Callable[[Layers], bool] = always,
    wider: int = 1,
    deeper: int = 1,
) -> Callable[[Choose], Trajectory]:
    double = torch.get_default_dtype()

    def run(choose: Choose) -> Trajectory:
        torch.set_default_dtype(torch.float64)
        try:
            return grow(controller, SPACE, START, allowed, choose, wider, deeper)
        finally:
            torch.set_default_dtype(double)

    return run


def macs(layers: Layers) -> int:
    return SPACE.architecture(SPACE.genotype(layers)).macs


def value(layers: Layers) -> float:
    """An arbitrary reward: the width of the network, and a little for its kernels."""
    return sum(layer.width + 0.3 * layer.kernel_size for row in layers for layer in row)


def frugal(layers: Layers) -> bool:
    return macs(layers) <= 2.6 * macs(START)


@pytest.mark.parametrize("allowed", [always, frugal])
def test_probabilities_of_all_networks_sum_to_one(allowed: Callable[[Layers], bool]) -> None:
    paths = list(every(runner(tiny_controller(), allowed)))
    assert len(paths) > 10
    assert sum(path.log_prob.exp().item() for path in paths) == pytest.approx(1.0, abs=1e-12)
    assert all(allowed(path.layers) for path in paths)


@pytest.mark.parametrize("allowed", [always, frugal])
@pytest.mark.parametrize("baseline", [0.0, 17.0])
def test_the_policy_gradient_is_that_of_the_expected_reward_for_any_baseline(
    allowed: Callable[[Layers], bool], baseline: float
) -> None:
    controller = tiny_controller()
    paths = list(every(runner(controller, allowed)))
    expected = torch.stack([path.log_prob.exp() * value(path.layers) for path in paths]).sum()
    exact = torch.autograd.grad(expected, list(controller.parameters()), retain_graph=True)
    estimate = torch.stack(
        [p.log_prob.exp().detach() * (value(p.layers) - baseline) * p.log_prob for p in paths]
    ).sum()
    estimates = torch.autograd.grad(estimate, list(controller.parameters()))
    for wanted, gradient in zip(exact, estimates, strict=True):
        torch.testing.assert_close(wanted, gradient, rtol=1e-9, atol=1e-12)


def test_the_loss_of_an_episode_is_minus_its_policy_gradient_and_some_entropy() -> None:
    controller = tiny_controller()
    paths = list(every(runner(controller)))[:4]
    loss = growth_loss(paths, [1.0, -2.0, 0.5, 0.0])
    terms = [w * p.log_prob for w, p in zip([1.0, -2.0, 0.5, 0.0], paths, strict=True)]
    plain = -torch.stack(terms).sum() / 4
    entropy = sum(path.entropy.item() for path in paths)
    assert loss.item() == pytest.approx(plain.item() - 1e-5 * entropy, abs=1e-12)


def test_sampled_networks_come_as_often_as_their_probability_says() -> None:
    run = runner(tiny_controller(), wider=1, deeper=0)
    expected = {path.steps: path.log_prob.exp().item() for path in every(run)}
    choose, trials = sampling(seeded(0, "sampled")), 1000
    drawn = [run(choose).steps for _ in range(trials)]
    for steps, share in expected.items():
        sigma = math.sqrt(share * (1 - share) / trials)
        assert abs(drawn.count(steps) / trials - share) < 4 * sigma


def test_it_learns_to_make_the_network_that_is_rewarded() -> None:
    torch.manual_seed(0)
    controller = Controller(SPACE, embedding=4, units=4)
    learner = Learner(controller)
    for group in learner.optimizer.param_groups:
        group["lr"] = 0.02
    choose = sampling(seeded(0, "learning"))

    def episode() -> list[Trajectory]:
        return [grow(controller, SPACE, START, always, choose, 1, 1) for _ in range(8)]

    def wanted(layers: Layers) -> float:
        """The first stage stays narrow, the second becomes wide and gets a kernel of 1."""
        return (layers[0][0].width == 4) + (layers[1][0].width == 8) + (Layer(8, 1) in layers[1])

    for _ in range(50):
        drawn = episode()
        learner.update(drawn, [wanted(path.layers) for path in drawn])
    assert sum(wanted(path.layers) for path in episode()) / 8 > 2.7


def test_random_actions_are_equally_likely() -> None:
    controller = tiny_controller().make_uniform()
    paths = list(every(runner(controller, wider=1, deeper=0)))
    assert {round(path.log_prob.exp().item(), 12) for path in paths} == {0.5**3}
    assert all(path.relative_entropy == pytest.approx(1.0) for path in paths)


def test_a_network_stays_as_it_is_if_no_step_is_allowed() -> None:
    path = runner(tiny_controller(), lambda layers: False, 3, 3)(lambda probs: 1)
    assert (
        path.layers,
        path.steps,
        path.log_prob.item(),
        path.relative_entropy,
    ) == (START, (), 0, 0)
    Learner(tiny_controller()).update([path], [1.0])


def test_the_budget_of_a_decision_includes_earlier_decisions() -> None:
    once = apply_step(SPACE, START, Step("wider", 0, 0, 8))
    path = runner(tiny_controller(), lambda layers: macs(layers) <= macs(once), 1, 0)(lambda p: 1)
    assert path.layers == once


def test_an_episode_of_the_paper_grows_networks_of_every_space() -> None:
    mobile = growable(mobile_space((1, 28, 28), 10))
    for space in (chain((1, 28, 28), 10), densenet((1, 28, 28), 10), mobile):
        torch.manual_seed(0)
        start, choose = space.layers(space.start), sampling(seeded(0, "episode"))
        with torch.no_grad():
            actions = space.wider_actions, 5, space.larger_actions
            path = grow(Controller(space), space, start, always, choose, *actions)
        space.genotype(path.layers)  # inside the space
        kinds = [step.kind for step in path.steps]
        order = ("wider", "larger", "deeper")
        assert kinds.count("deeper") == 5 and kinds == sorted(kinds, key=order.index)
        assert ("larger" in kinds) == (space.family == "mobile")
        layers = start
        for step in path.steps:
            layers = apply_step(space, layers, step)
        assert layers == path.layers


def test_words_are_those_of_the_code_of_the_paper() -> None:
    space = chain((3, 32, 32), 10)
    words = [word for word, _ in sentence(space, space.layers(space.start))]
    assert words == [*["conv-4-3", "pool"] * 4, "fc-8"]
    dense = densenet((3, 32, 32), 10)
    words = [word for word, _ in sentence(dense, dense.layers(dense.start))]
    assert words == ["g4", "t", "g4", "t", "g4"]
    known = vocabulary(space)
    assert 0 not in known.values() and len(set(known.values())) == len(known)


def test_steps_have_a_description_and_an_inverse() -> None:
    wide = Step("wider", 1, 0, 8)
    assert wide.description == "wider 2.1 to 8"
    assert Step("deeper", 0, 0, 3).description == "deeper 1.1 k3"
    assert apply_step(SPACE, apply_step(SPACE, START, wide), Step("narrower", 1, 0, 4)) == START
    deep = apply_step(SPACE, START, Step("deeper", 0, 0, 1))
    assert deep[0] == (Layer(4, 3), Layer(4, 1))
    assert Step("shallower", 0, 1) in list(smaller_steps(SPACE, deep))
    assert apply_step(SPACE, deep, Step("shallower", 0, 1)) == START
    with pytest.raises(UsageError, match=r"wider 2.3 to 8: the space small has no such layer"):
        apply_step(SPACE, START, Step("wider", 1, 2, 8))


def test_the_widest_layer_and_a_full_stage_do_not_grow() -> None:
    wide = SPACE.layers(SPACE.default)
    assert wider_step(SPACE, wide, Place(0, 0)) is None
    full = apply_step(SPACE, START, Step("deeper", 0, 0, 3))
    assert deeper_steps(SPACE, full, Place(0, 0)) == []
    pixel = small_space(size=2)  # one pixel after the pool
    assert [step.value for step in deeper_steps(pixel, START, Place(1, 0))] == [1]
    assert [step.value for step in deeper_steps(pixel, START, Place(0, 0))] == [1, 3]


def test_the_reward_is_the_published_one() -> None:
    for accuracy, tangent in [(0.8, 3.0777), (0.9, 6.3138), (0.95, 12.7062), (0.99, 63.6567)]:
        assert reward(accuracy, 2.0, 2.0, 0.1) == pytest.approx(tangent, abs=1e-4)
    assert reward(0.9, 1.0, 2.0, 0.1) == pytest.approx(6.3138 * 2**0.1, rel=1e-4)
    assert math.isfinite(reward(1.0, 1.0, 1.0, 0.1))


def test_only_the_baseline_of_the_code_includes_the_new_reward() -> None:
    code, paper = Baseline("code"), Baseline("paper")
    assert code.advantages([1.0, 3.0]) == pytest.approx([1 - 1.9, 3 - 1.9])
    assert code.advantages([4.0]) == pytest.approx([4 - (1.9 + 0.95 * 2.1)])
    assert paper.advantages([1.0, 3.0]) == pytest.approx([-1.0, 1.0])
    assert paper.advantages([4.0]) == pytest.approx([2.0])
    assert paper.advantages([4.0]) == pytest.approx([4 - (2.0 + 0.05 * 2.0)])
