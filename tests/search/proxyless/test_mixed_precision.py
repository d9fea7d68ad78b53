"""An architecture step in bf16: recomputed candidates are cast too, sums stay float32."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from hwnas.nn.supernet import Supernet
from hwnas.search.proxyless.gates import apply_gate
from hwnas.search.proxyless.gradient import Estimator, ProxylessGradient
from hwnas.search.proxyless.reinforce import Reinforce
from hwnas.training.compute import CPU, Compute, full_precision
from tests.support.tiny import tiny_batch, tiny_costs, tiny_space

BF16 = Compute(amp="bf16")
SPACE = tiny_space(widths=(8, 16))
BATCH = tiny_batch(32)
each = pytest.mark.parametrize("estimator", ["full", "two"])


def started(compute: Compute, estimator: Estimator = "full") -> ProxylessGradient:
    """Return a search whose logits have no gradient of the latency."""
    torch.manual_seed(0)
    return ProxylessGradient(
        Supernet(SPACE), tiny_costs(SPACE), 1e6, torch.Generator().manual_seed(0), 0.1,
        estimator=estimator, compute=compute,
    )  # fmt: skip


class Convolutions(nn.Module):
    """A decision of plain convolutions."""

    def __init__(self, candidates: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 3, padding=1) for _ in range(candidates))

    def __len__(self) -> int:
        return len(self.convs)

    def forward(self, x: Tensor, choice: int) -> Tensor:
        return self.convs[choice](x)


def test_the_gradient_of_gates_is_within_three_percent_of_that_in_float32() -> None:
    torch.manual_seed(0)
    ops, images = [Convolutions(3), Convolutions(3)], torch.randn(8, 4, 6, 6)
    gradients: list[Tensor] = []
    for compute in (CPU, BF16):
        probs = torch.full((2, 3), 1 / 3, requires_grad=True)
        with compute.autocast():
            y = images
            for place, op in enumerate(ops):
                y = apply_gate(probs, None, place, op, y, active=1)
        full_precision(y).square().sum().backward()
        assert probs.grad is not None and probs.grad.dtype == torch.float32
        gradients.append(probs.grad)
    exact, ours = gradients
    assert 0 < (ours - exact).norm() / exact.norm() <= 3e-2


@each
def test_an_architecture_step_has_the_direction_of_that_in_float32(estimator: Estimator) -> None:
    """The logits' gradient is a small difference of sums, so that rounding is a tenth of it."""
    gradients: list[Tensor] = []
    for compute in (CPU, BF16):
        strategy = started(compute, estimator)
        strategy.architecture_step(BATCH)
        assert strategy.arch_logits.grad is not None
        gradients.append(strategy.arch_logits.grad.flatten())
    exact, ours = gradients
    assert torch.cosine_similarity(exact, ours, dim=0) > 0.98
    assert not torch.equal(exact, ours)


@each
def test_recomputed_candidates_are_cast_as_those_of_the_forward_pass(estimator: Estimator) -> None:
    """With blocks of a 7 x 7 kernel, whose gradient has its own code in float32."""
    strategy, types = started(BF16, estimator), list[torch.dtype]()
    for part in strategy.supernet.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda _, __, output: types.append(output.dtype))
    forward = list[int]()
    strategy.supernet.register_forward_hook(lambda *_: forward.append(len(types)))
    strategy.architecture_step(BATCH)
    assert len(types) > forward[0] > 0
    assert set(types) == {torch.bfloat16}


@pytest.mark.parametrize("kind", [ProxylessGradient, Reinforce])
def test_losses_and_all_that_a_search_keeps_are_float32(kind: type[ProxylessGradient]) -> None:
    strategy = started(BF16)
    if kind is Reinforce:
        generator = torch.Generator().manual_seed(0)
        strategy = Reinforce(Supernet(SPACE), tiny_costs(SPACE), 2.0, generator, compute=BF16)
    results = [strategy.weight_step(BATCH, 0.1), strategy.architecture_step(BATCH)]
    assert {value.dtype for result in results for value in result} == {torch.float32}
    floats = [value for value in strategy.state_dict().values() if value.is_floating_point()]
    assert {value.dtype for value in floats} <= {torch.float32, torch.float64}
