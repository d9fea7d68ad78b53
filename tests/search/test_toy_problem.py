"""A problem with a known answer: only a convolution tells horizontal from vertical stripes.

The stem sees single pixels only, so the search must choose the operations that see neighbours. If
the budget allows a convolution, the result must have one; otherwise it must be the skip.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.plugins import load, names
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import Estimator, ProxylessOptions
from hwnas.search.proxyless.reinforce import ReinforceOptions
from hwnas.search.strategy import SearchContext, StrategyOptions
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.mobile.space import Candidate
from hwnas.spaces.space import SearchSpace
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import Data
from tests.support.tiny import tiny_space

SIZE = 8
OPS = ("skip_connect", "sep_conv_3x3")
CELLS = CellSpace("cells", (1, SIZE, SIZE), 2, 8, 1, "cifar", "none", OPS, 1)
NORMED = CellSpace("cells-norm", (1, SIZE, SIZE), 2, 8, 1, "cifar", "pool and skip", OPS, 1)
CHAIN = tiny_space(Candidate("mbconv", 3, 3), size=SIZE, widths=(8,))
ON_CELLS = {"darts", "darts-2", "pc-darts", "ista"}
CASES = [
    *((name, CELLS, "full") for name in sorted(ON_CELLS)),
    ("ista-one-stage", NORMED, "full"),
    *((name, CELLS, "full") for name in ("proxyless", "random")),
    ("proxyless", CELLS, "two"),
    ("proxyless", CHAIN, "full"),
    ("proxyless", CHAIN, "two"),
    *((name, CHAIN, "full") for name in ("reinforce", "evolution", "nsga2", "random")),
]
PLAN = SearchPlan(
    warmup_epochs=4,
    search_epochs=8,
    batch_size=32,
    augmentation=Augmentation(flip=False),
    weight_steps=1,
    warmup_learning_rate=0.1,
    search_learning_rate=0.05,
)


def stripes(count: int, seed: int) -> Data:
    """Return random grey stripes, horizontal (label 0) or vertical (1), with equal histograms."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    lines = torch.randint(0, 256, (count, 1, SIZE, 1), generator=generator).expand(-1, -1, -1, SIZE)
    images = torch.where(labels.view(-1, 1, 1, 1) == 0, lines, lines.transpose(2, 3))
    channel = torch.full((1, 1, 1), 0.5)
    return Data(images.to(torch.uint8), labels, channel, 0.6 * channel)


def costs_of(space: SearchSpace) -> CostTable:
    """Return costs of 1 ms per convolution; everything else is free."""
    return cost_table(space, lambda block: float(block.op in ("sep_conv", "mbconv")), 0.0)


def options_of(name: str, estimator: Estimator) -> StrategyOptions | None:
    """Return options under which a search decides by its own learned parameters."""
    if name == "proxyless":
        return ProxylessOptions(estimator, choice="most-probable")
    return ReinforceOptions(choice="most-probable") if name == "reinforce" else None


def chosen(
    name: str,
    space: SearchSpace,
    options: StrategyOptions | None,
    budget_ms: float,
    at: Path,
) -> set[str]:
    """Search, and return the operations of the network that a run would deliver."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    costs = costs_of(space)
    strategy: Any = load("strategy", name).begin(
        # a hinge is zero within the budget, where accuracy alone decides
        SearchContext(
            space=space,
            costs=costs,
            budget_ms=budget_ms,
            generator=generator,
            arch_learning_rate=0.1,
            objective="hinge",
            options=options,
        )
    )
    blind(strategy.supernet)
    train, valid = stripes(128, 0), stripes(64, 1)
    files = SearchFiles(at / "s", at / "l")
    if strategy.traits.own_loop:
        strategy.search(train, valid, PLAN, 0, files)
    else:
        run_search(strategy, train, valid, PLAN, 0, files)
    candidates: list[Genotype] = strategy.candidates(
        4 if name == "random" else 1, 0.0, budget_ms, 0
    )
    best = max(candidates, key=lambda genotype: evaluated(strategy, genotype, train, valid))
    assert costs.network_ms(best.choices) <= budget_ms
    blocks = space.architecture(best).blocks
    return {"conv" for block in blocks if block.op in ("sep_conv", "mbconv")} or {"skip"}


def blind(supernet: nn.Module) -> None:
    """Restrict the first convolution to the centre pixel."""
    first = next(module for module in supernet.modules() if isinstance(module, nn.Conv2d))
    assert first.kernel_size == (3, 3)
    first.weight.register_hook(centre)
    with torch.no_grad():
        first.weight.copy_(centre(first.weight))


def centre(weight: torch.Tensor) -> torch.Tensor:
    only = torch.zeros_like(weight)
    only[:, :, 1, 1] = weight[:, :, 1, 1]
    return only


def evaluated(strategy: Any, genotype: Genotype, train: Data, valid: Data) -> float:
    network = strategy.network(genotype)
    recalibrate(network, train)
    return accuracy(network, valid)


def test_no_strategy_is_left_out() -> None:
    # EAS grows networks, elastic cuts a trained one; their toy problems are in their own tests
    others = {"eas", "eas-random", "elastic"}
    assert {name for name, _, _ in CASES} >= set(names("strategy")) - others


IDS = ["-".join((name, space.name, estimator)) for name, space, estimator in CASES]


@pytest.mark.parametrize(("name", "space", "estimator"), CASES, ids=IDS)
def test_the_useful_operation_wins_unless_the_budget_excludes_it(
    name: str, space: SearchSpace, estimator: Estimator, tmp_path: Path
) -> None:
    largest_ms = costs_of(space).largest_ms
    options = options_of(name, estimator)
    assert chosen(name, space, options, 1.1 * largest_ms, tmp_path) == {"conv"}
    assert chosen(name, space, options, 0.4, tmp_path) == {"skip"}


@pytest.mark.parametrize(
    ("name", "space"), [("proxyless", CELLS), ("proxyless", CHAIN), ("reinforce", CHAIN)]
)
def test_judged_on_the_supernet_the_useful_operation_wins_too(
    name: str, space: SearchSpace, tmp_path: Path
) -> None:
    assert chosen(name, space, None, 1.1 * costs_of(space).largest_ms, tmp_path) == {"conv"}
    assert chosen(name, space, None, 0.4, tmp_path) == {"skip"}
