"""What every search strategy promises (`hwnas.search.strategy.Strategy`)."""

from __future__ import annotations

from typing import Any

import torch

from hwnas.architecture.architecture import Block
from hwnas.latency_models.cost import CostTable
from hwnas.search.registry import interface_problem
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage
from hwnas.spaces.space import SearchSpace
from hwnas.testing.contract import holds
from hwnas.training.loader import Batch

COUNT = 3
WINDOW = (0.3, 0.8)
"""Between the smallest and the largest network; candidates must lie there."""


def small_space() -> MobileSpace:
    """Return a chain of two decisions for images of 12 x 12 pixels and three classes."""
    return MobileSpace(
        name="small",
        input_shape=(1, 12, 12),
        num_classes=3,
        stem=(Block("conv", 1, 8, 3, 2, 1, 12),),
        stages=(Stage(8, 1, 1), Stage(8, 1, 1)),
        candidates=tuple(Candidate("mbconv", k, e) for k in (3, 7) for e in (3, 6)),
        head_width=16,
    )


def small_costs(space: SearchSpace) -> CostTable:
    """Return costs about a millisecond apart, by place and candidate; a skip costs nothing."""
    rows = [[0.0] * len(decision.candidates) for decision in space.decisions]
    for site in space.sites():
        if not site.block.is_free:
            rows[site.decision][site.candidate] += site.multiplicity * (
                1 + 0.25 * site.candidate + 0.05 * site.decision
            )
    return CostTable(tuple(map(tuple, rows)), 0.5)


def check_strategy(kind: Any, space: SearchSpace | None = None) -> None:
    """Check a strategy class on a space it is for (default: a small chain of MBConvs).

    Trains a few steps on noise; a strategy with ``traits.own_loop`` is not run.
    """
    space = space or small_space()
    costs = small_costs(space)
    span_ms = costs.largest_ms - costs.smallest_ms
    low_ms, high_ms = (costs.smallest_ms + share * span_ms for share in WINDOW)
    problem = interface_problem(kind)
    holds(not problem, problem)
    kind.check(space)
    strategy = _begun(kind, space, costs, high_ms)
    strategy.set_costs(costs, high_ms)
    if not kind.traits.own_loop:
        _check_steps(kind, strategy, space, costs, high_ms)
        _check_candidates(strategy, space, costs, low_ms, high_ms)


def _begun(kind: Any, space: SearchSpace, costs: CostTable, budget_ms: float) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        return kind.begin(
            SearchContext(space=space, costs=costs, budget_ms=budget_ms, generator=generator)
        )


def _batch(space: SearchSpace, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, *space.input_shape, generator=generator)
    return images, torch.randint(space.num_classes, (6,), generator=generator)


def _check_steps(
    kind: Any, strategy: Any, space: SearchSpace, costs: CostTable, budget_ms: float
) -> None:
    for number in range(2):
        log = strategy.weight_step(_batch(space, number), 0.01)
        holds(log.loss == log.loss and abs(log.loss) < 1e6, "a weight step has a finite loss")
        holds(0 <= log.accuracy <= 1, "accuracy is a share")
        strategy.begin_epoch(number == 0)
        strategy.architecture_step(_batch(space, 10 + number))
    state = {name: value.clone() for name, value in strategy.state_dict().items()}
    holds(all(value.isfinite().all() for value in state.values()), "the state is finite")
    other = _begun(kind, space, costs, budget_ms)
    other.load_state_dict(state)
    again = other.state_dict()
    holds(
        again.keys() == state.keys() and all(torch.equal(again[n], state[n]) for n in state),
        "what load_state_dict() is given, state_dict() gives back",
    )


def _check_candidates(
    strategy: Any, space: SearchSpace, costs: CostTable, low_ms: float, high_ms: float
) -> None:
    found = strategy.candidates(COUNT, low_ms, high_ms, 0)
    holds(0 < len(found) <= COUNT, "candidates() gives at most as many as are asked for, not none")
    holds(len(set(found)) == len(found), "candidates() gives no genotype twice")
    holds(strategy.candidates(COUNT, low_ms, high_ms, 0) == found, "the same seed, the same ones")
    for genotype in found:
        made = space.architecture(genotype)
        if len(genotype.choices) == len(costs.mean_ms):
            taken_ms = costs.network_ms(genotype.choices)
            holds(low_ms <= taken_ms <= high_ms, "candidates lie inside the latency window")
        network = strategy.network(genotype).eval()
        images, _ = _batch(space, 0)
        with torch.no_grad():
            logits = network(images)
        shape = (len(images), space.num_classes)
        holds(tuple(logits.shape) == shape, f"its network gives logits {shape}")
        holds(made.blocks, "its architecture has blocks")
    preferred = strategy.preferences()
    if preferred is not None:
        for row in preferred[0]:
            holds(abs(sum(row) - 1) < 1e-4, "preferences() are probabilities of each decision")
