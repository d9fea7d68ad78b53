"""The architecture step of ProxylessNAS: its gradient, its side effects, its learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.latency_models.cost import CostTable
from hwnas.nn.supernet import MixedOp, Supernet
from hwnas.search.objective import Linear
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.statistics import mean_entropy
from hwnas.spaces.mobile.space import MBCONVS, Candidate, MobileSpace
from tests.support.tiny import tiny_batch, tiny_costs, tiny_space

SINGLE = tiny_space(widths=(8,))
"""One decision of five candidates: k3 e3, k7 e6, fused e1, fused e2, skip."""
THREE = tiny_space(widths=(8, 16, 16))
"""Three decisions of 5, 4 and 5 candidates."""
SKIP = 4


def searcher(
    space: MobileSpace, budget_ms: float = 2.0, rate: float = 0.05, share: bool = True
) -> ProxylessGradient:
    torch.manual_seed(0)
    supernet = Supernet(space, share)
    for part in supernet.modules():  # no residual branch stays silent
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
    generator = torch.Generator().manual_seed(0)
    return ProxylessGradient(supernet, tiny_costs(space), budget_ms, generator, rate)


def exact(space: MobileSpace, share: bool = True) -> ProxylessGradient:
    """Return a searcher in float64 with logits far from equal; its latency has no weight."""
    strategy = searcher(space, share=share)
    strategy.objective = Linear(strategy.objective.budget_ms, 0.0)
    strategy.supernet.double()
    noise = torch.randn(strategy.mask.shape, generator=torch.Generator().manual_seed(1))
    strategy.arch_logits.data = noise.double()
    strategy.cost_ms = strategy.cost_ms.double()
    return strategy


def gradient(strategy: ProxylessGradient, path: Sequence[int]) -> Tensor:
    """Take an architecture step along ``path``; return the gradient of the logits."""
    strategy._sample = lambda: list(path)
    images, labels = tiny_batch()
    strategy.architecture_step((images.to(strategy.arch_logits.dtype), labels))
    assert strategy.arch_logits.grad is not None
    return strategy.arch_logits.grad.clone()


def explicit_gates(gates: Tensor) -> Callable[[int, MixedOp, Tensor, int], Tensor]:
    """Mix as ``sum_j gates[p, j] * o_j(x)``, all candidates run with graph."""

    def mix(place: int, op: MixedOp, x: Tensor, active: int) -> Tensor:
        terms = [gates[place, j] * op(x, j) for j in range(len(op))]
        return torch.stack(terms).sum(0)

    return mix


def gate_gradients(strategy: ProxylessGradient, path: Sequence[int]) -> Tensor:
    """Return ``dL/dg [P, K]`` by autograd through explicit gates that are one on ``path``."""
    gates = torch.zeros_like(strategy.arch_logits)
    gates[range(len(path)), list(path)] = 1
    gates.requires_grad_()
    images, labels = tiny_batch()
    loss = F.cross_entropy(
        strategy.supernet.train()(images.double(), path, explicit_gates(gates)), labels
    )
    return torch.autograd.grad(loss, gates)[0]


PATHS = [
    (SINGLE, (0,)),
    (SINGLE, (3,)),
    (SINGLE, (SKIP,)),
    (THREE, (0, 1, 2)),
    (THREE, (SKIP, 3, SKIP)),
]


@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
@pytest.mark.parametrize(("space", "path"), PATHS, ids=[str(path) for _, path in PATHS])
def test_the_gradient_of_the_logits_is_equation_4(
    space: MobileSpace, path: tuple[int, ...], share: bool
) -> None:
    strategy = exact(space, share)
    probs = strategy.probs.detach()
    dl_dg = gate_gradients(strategy, path)
    expected = torch.zeros_like(probs)
    for p, row in enumerate(THREE.options[: len(path)]):
        for i in range(len(row)):
            for j in range(len(row)):
                expected[p, i] += dl_dg[p, j] * probs[p, j] * (int(i == j) - probs[p, i])
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(gradient(strategy, path), expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("path", [(0,), (2,), (SKIP,)])
def test_with_one_decision_the_gradient_follows_from_the_candidates_outputs(
    path: tuple[int, ...],
) -> None:
    strategy, (images, labels) = exact(SINGLE), tiny_batch()
    supernet, probs = strategy.supernet.train(), strategy.probs.detach()[0]
    assert isinstance(supernet, Supernet)
    with torch.no_grad():
        x = supernet.stem(images.double())
        outputs = [supernet.ops[0](x, candidate) for candidate in range(5)]
    y = outputs[path[0]].clone().requires_grad_()
    (dl_dy,) = torch.autograd.grad(F.cross_entropy(supernet.head(y), labels), y)
    dl_dg = torch.stack([(dl_dy * output).sum() for output in outputs])
    expected = probs * (dl_dg - (probs * dl_dg).sum())
    torch.testing.assert_close(gradient(strategy, path)[0], expected, rtol=1e-10, atol=1e-14)


def test_the_latency_part_of_the_gradient_is_the_closed_form() -> None:
    without, weighted = exact(THREE), exact(THREE)
    weighted.objective = Linear(weighted.objective.budget_ms, 0.7)
    path = (1, 0, SKIP)
    difference = gradient(weighted, path) - gradient(without, path)
    probs = exact(THREE).probs.detach()
    block_ms = (probs * weighted.cost_ms).sum(1, keepdim=True)
    expected = 0.7 / weighted.objective.budget_ms * probs * (weighted.cost_ms - block_ms)
    assert expected.abs().sum() > 0.1
    torch.testing.assert_close(difference, expected, rtol=1e-9, atol=1e-14)


def test_a_missing_candidate_has_no_probability_and_no_gradient() -> None:
    strategy = searcher(THREE)
    assert strategy.mask.tolist() == [[True] * 5, [True] * 4 + [False], [True] * 5]
    before = strategy.arch_logits.detach().clone()
    for path in ((0, 0, 0), (4, 3, 4), (1, 2, 3)):
        grad = gradient(strategy, path)
        assert grad[1, 4] == 0 and strategy.probs[1, 4] == 0
        assert (grad[strategy.mask] != 0).all()
    # beta1 = 0: no gradient, no movement
    changed = strategy.arch_logits.detach() != before
    assert torch.equal(changed, strategy.mask)
    assert torch.allclose(strategy.probs.sum(1), torch.ones(3))


def test_a_logit_whose_gradient_ends_stops_at_once() -> None:
    strategy = searcher(SINGLE)
    gradient(strategy, (0,))
    before = strategy.arch_logits.detach().clone()
    strategy.arch_logits.grad = torch.tensor([[0.0, 0.0, 0.1, 0.0, 0.0]])
    strategy.arch_optimizer.step()
    changed = strategy.arch_logits.detach() != before
    assert changed.tolist() == [[False, False, True, False, False]]


def test_an_architecture_step_leaves_weights_and_statistics_as_they_were() -> None:
    strategy = searcher(THREE)
    strategy.weight_step(tiny_batch(), 0.1)
    before = {name: value.clone() for name, value in strategy.weights.state_dict().items()}
    gradient(strategy, (0, 1, 2))
    after = strategy.weights.state_dict()
    assert any("num_batches_tracked" in name for name in before)
    assert any("momentum." in name for name in before)
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in strategy.supernet.parameters())


def test_a_weight_step_after_an_architecture_step_trains_weights_and_statistics() -> None:
    strategy = searcher(SINGLE)
    gradient(strategy, (0,))
    before = {name: value.clone() for name, value in strategy.supernet.state_dict().items()}
    logits = strategy.arch_logits.detach().clone()
    strategy.weight_step(tiny_batch(), 0.1)
    assert torch.equal(strategy.arch_logits, logits)
    for name, value in strategy.supernet.state_dict().items():
        if name.startswith(("stem", "head")):
            assert not torch.equal(value, before[name]), name


def test_the_two_optimisers_have_no_parameter_in_common() -> None:
    strategy = searcher(THREE)

    def owned(optimizer: torch.optim.Optimizer) -> set[int]:
        return {id(p) for group in optimizer.param_groups for p in group["params"]}

    assert owned(strategy.arch_optimizer) == {id(strategy.arch_logits)}
    assert owned(strategy.weights.optimizer) == set(map(id, strategy.supernet.parameters()))
    assert id(strategy.arch_logits) not in owned(strategy.weights.optimizer)


def saved_bytes(strategy: ProxylessGradient, run: Callable[[], object]) -> int:
    """Return the bytes that autograd saves for the backward pass, without weights."""
    weights = {p.untyped_storage().data_ptr() for p in strategy.supernet.parameters()}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(t.untyped_storage().nbytes() for at, t in saved.items() if at not in weights)


def test_an_architecture_step_needs_the_memory_of_a_single_path() -> None:
    one_path: list[int] = []
    all_paths: list[int] = []
    images, _ = tiny_batch()
    for count in (2, 4, 6):
        # equal candidates, each with its own weights, so that their number alone differs
        strategy = searcher(tiny_space(*[MBCONVS[0]] * count, widths=(8, 8)), share=False)
        supernet, ones = strategy.supernet, torch.ones(2, count + 1, requires_grad=True)
        one_path.append(saved_bytes(strategy, lambda s=strategy: gradient(s, (0, 0))))
        every = explicit_gates(ones)
        all_paths.append(
            saved_bytes(strategy, lambda s=supernet, mix=every: s(images, (0, 0), mix))
        )
    # only the few numbers per candidate of the softmax grow
    assert 0 <= one_path[2] - one_path[0] < 1000 < one_path[0]
    assert all_paths[2] - all_paths[1] == pytest.approx(all_paths[1] - all_paths[0], rel=0.1)
    assert all_paths[2] > all_paths[0] + 3 * one_path[0]


def test_with_equal_ops_the_search_learns_the_fastest() -> None:
    space = tiny_space(MBCONVS[0], MBCONVS[0], MBCONVS[0], widths=(16, 24))
    strategy = searcher(space, rate=0.1, share=False)
    assert isinstance(strategy.supernet, Supernet)
    for op in strategy.supernet.ops:
        for candidate in op.candidates:
            candidate.load_state_dict(op.candidates[0].state_dict())
    strategy.set_costs(CostTable(((3.0, 1.0, 9.0), (5.0, 4.0, 1.0)), 0.0), budget_ms=2.2)
    first = strategy.metrics().expected_ms
    for _ in range(80):
        strategy.architecture_step(tiny_batch())
    assert strategy.arch_logits.argmax(1).tolist() == [1, 2]
    last = strategy.metrics().expected_ms
    assert first is not None and last is not None and last < 0.5 * first


def test_the_search_keeps_the_candidate_that_the_task_needs() -> None:
    """Where only neighbouring pixels tell the label, k3 is needed; k1 costs the same."""
    k1, k3 = (Candidate("fused_mbconv", k, 2) for k in (1, 3))
    generator, (images, labels) = torch.Generator().manual_seed(0), stripes()
    for candidates in ((k1, k3), (k3, k1)):
        space = tiny_space(*candidates, size=8, widths=(16,))
        # the stem must not see neighbours either
        stem = (type(space.stem[0])("conv", 1, 8, 1, 1, 1, 8),)
        space = MobileSpace("tiny", (1, 8, 8), 2, stem, space.stages, candidates, 16)
        torch.manual_seed(0)
        costs = CostTable(((1.0, 1.0),), 0.0)
        strategy = ProxylessGradient(Supernet(space, False), costs, 1.0, generator, 0.05)
        for _ in range(40):
            strategy.weight_step((images, labels), 0.05)
            strategy.architecture_step((images, labels))
        assert candidates[int(strategy.arch_logits.argmax())] == k3
        assert strategy.probs.max() > 0.8


def stripes() -> tuple[Tensor, Tensor]:
    """Return stripes of one pixel (label 0) and of two (label 1): the same histogram."""
    column = torch.arange(8)
    wave = torch.stack([column % 2, column // 2 % 2]).float() * 2 - 1
    labels = torch.arange(16) % 2
    return wave[labels].view(16, 1, 1, 8).expand(16, 1, 8, 8).contiguous(), labels


def test_entropy_is_1_for_uniform_and_0_for_certain_decisions() -> None:
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    level = mask / mask.sum(1, keepdim=True)
    assert mean_entropy(level, mask) == pytest.approx(1)
    assert mean_entropy(torch.eye(4)[:2], mask) == pytest.approx(0, abs=1e-6)
