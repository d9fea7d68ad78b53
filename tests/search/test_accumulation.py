"""Steps whose batch is computed in parts have the gradients of the whole batch."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from hwnas.latency_models.cost import cost_table
from hwnas.nn.supernet import Supernet
from hwnas.search.objective import OBJECTIVES
from hwnas.search.path_training import WeightTraining
from hwnas.search.proxyless.gradient import Estimator, ProxylessGradient
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import cell_space
from hwnas.training.compute import CPU
from tests.support.tiny import MB33, MB36, tiny_batch, tiny_costs, tiny_space

SPACE = tiny_space(MB33, MB36)


class WithoutNorms(Supernet):
    """Batch norms take their statistics over a part, so that only a net without them is exact."""

    def __init__(self) -> None:
        super().__init__(SPACE, share_weights=False)
        for module in list(self.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):
                    setattr(module, name, nn.Identity())


def test_the_parts_of_a_batch_have_its_images_and_their_shares() -> None:
    training = WeightTraining(nn.Linear(1, 1), CPU, 0.0, 0.0)
    training.accumulate = 3
    batch = torch.arange(8), torch.arange(8)
    parts = list(training.parts(batch))
    assert [part[0].tolist() for part, _ in parts] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [share for _, share in parts] == [3 / 8, 3 / 8, 2 / 8]


def weights_after_a_step(accumulate: int) -> Tensor:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 3)).double()
    training = WeightTraining(net, CPU, 0.9, 1e-3, label_smoothing=0.1, clip_norm=0.5)
    training.accumulate = accumulate
    images, labels = tiny_batch(8)
    loss, logits = training.step((images.double(), labels), net, 0.1)
    assert logits.shape == (8, 3)
    flat = torch.cat([parameter.detach().flatten() for parameter in net.parameters()])
    return torch.cat([flat, loss[None], logits.flatten()])


def test_a_weight_step_in_parts_is_that_of_the_whole_batch() -> None:
    torch.testing.assert_close(
        weights_after_a_step(3), weights_after_a_step(1), rtol=1e-12, atol=1e-12
    )


def logits_gradient(objective: str, estimator: Estimator, accumulate: int) -> Tensor:
    torch.manual_seed(0)
    supernet, generator = WithoutNorms().double(), torch.Generator().manual_seed(0)
    costs = tiny_costs(SPACE)
    search = ProxylessGradient(supernet, costs, 2.0, generator, 0.1, objective, estimator)
    search.weights.accumulate = accumulate
    images, labels = tiny_batch(8)
    result = search.architecture_step((images.double(), labels))
    assert search.arch_logits.grad is not None
    return torch.cat([search.arch_logits.grad.flatten(), result.loss[None], result.accuracy[None]])


@pytest.mark.parametrize("estimator", get_args(Estimator))
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_an_architecture_step_in_parts_is_that_of_the_whole_batch(
    objective: str, estimator: Estimator
) -> None:
    whole, parts = (logits_gradient(objective, estimator, count) for count in (1, 3))
    assert whole[:-2].abs().max() > 1e-3
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["proxyless", "reinforce", "random", "evolution", "darts", "pc-darts", "ista"]
)
def test_a_strategy_begins_with_the_parts_of_its_plan(name: str) -> None:
    cells = cell_space((1, 12, 12), 4, channels=8, layers=3)
    space = cells if name in ("darts", "pc-darts", "ista") else SPACE
    costs = cost_table(space, lambda block: 1e-6 * block.macs, 0.0)
    context = SearchContext(
        space=space,
        costs=costs,
        budget_ms=costs.network_ms(space.default.choices),
        generator=torch.Generator(),
        accumulate=4,
    )
    assert load_strategy(name).begin(context).weights.accumulate == 4  # type: ignore[attr-defined]
