"""Conformance test of search strategies (`hwnas.search.strategy.Strategy`)."""

from __future__ import annotations

from typing import Any

import torch

from hwnas.architecture.architecture import Block
from hwnas.latency_models.cost import CostTable
from hwnas.search.registry import interface_problem
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage
from hwnas.spaces.space import SearchSpace
from hwnas.testing.contract import require
from hwnas.training.images.loader import Batch

CANDIDATES = 3
LATENCY_WINDOW = (0.3, 0.8)
"""Latency window for candidates, as shares of the range of the space."""


def small_space() -> MobileSpace:
    """Return a space of two decisions for images of 12 x 12 pixels and three classes."""
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
    """Return a cost table of about 1 ms per block, by position and candidate; skips are free."""
    rows = [[0.0] * len(decision.candidates) for decision in space.decisions]
    for site in space.sites():
        if not site.block.is_free:
            rows[site.decision][site.candidate] += site.multiplicity * (
                1 + 0.25 * site.candidate + 0.05 * site.decision
            )
    return CostTable(tuple(map(tuple, rows)), 0.5)


def check_strategy(kind: Any, space: SearchSpace | None = None) -> None:
    """Check a strategy class on a space that it supports, by default a small chain of MBConvs.

    The strategy trains a few steps on noise, its state must survive saving and loading, and its
    candidates must lie in the latency window and be repeatable. A strategy with
    ``traits.own_loop`` is created but not run. Raises `ContractBroken`.
    """
    space = space or small_space()
    costs = small_costs(space)
    span_ms = costs.largest_ms - costs.smallest_ms
    low_ms, high_ms = (costs.smallest_ms + share * span_ms for share in LATENCY_WINDOW)
    problem = interface_problem(kind)
    require(not problem, problem)
    kind.check(space)
    strategy = _begin(kind, space, costs, high_ms)
    strategy.set_costs(costs, high_ms)
    if not kind.traits.own_loop:
        _check_steps(kind, strategy, space, costs, high_ms)
        _check_candidates(strategy, space, costs, low_ms, high_ms)


def _begin(kind: Any, space: SearchSpace, costs: CostTable, budget_ms: float) -> Any:
    with torch.random.fork_rng(devices=[]):
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
        loss, accuracy = strategy.weight_step(_batch(space, number), 0.01)
        require(bool(loss.isfinite()), "the loss of a weight step is finite")
        require(0 <= float(accuracy) <= 1, "accuracy is between 0 and 1")
        strategy.begin_epoch(number == 0)
        strategy.architecture_step(_batch(space, 10 + number))
        strategy.metrics()
    state = {name: value.clone() for name, value in strategy.state_dict().items()}
    require(all(value.isfinite().all() for value in state.values()), "the state is finite")
    other = _begin(kind, space, costs, budget_ms)
    other.load_state_dict(state)
    again = other.state_dict()
    require(
        again.keys() == state.keys() and all(torch.equal(again[n], state[n]) for n in state),
        "state_dict() returns what load_state_dict() was given",
    )


def _check_candidates(
    strategy: Any, space: SearchSpace, costs: CostTable, low_ms: float, high_ms: float
) -> None:
    genotypes = strategy.candidates(CANDIDATES, low_ms, high_ms, 0)
    require(0 < len(genotypes) <= CANDIDATES, "candidates() gives between one and count genotypes")
    require(len(set(genotypes)) == len(genotypes), "candidates() gives no genotype twice")
    again = strategy.candidates(CANDIDATES, low_ms, high_ms, 0)
    require(again == genotypes, "the same seed gives the same candidates")
    for genotype in genotypes:
        architecture = space.architecture(genotype)
        if len(genotype.choices) == len(costs.mean_ms):
            latency_ms = costs.network_ms(genotype.choices)
            require(low_ms <= latency_ms <= high_ms, "candidates lie inside the latency window")
        network = strategy.network(genotype).eval()
        images, _ = _batch(space, 0)
        with torch.no_grad():
            logits = network(images)
        shape = (len(images), space.num_classes)
        require(tuple(logits.shape) == shape, f"the logits of its network have shape {shape}")
        require(architecture.blocks, "its architecture has blocks")
    preferences = strategy.preferences()
    if preferences is not None:
        for row in preferences[0]:
            require(abs(sum(row) - 1) < 1e-4, "preferences() are probabilities of each decision")
