"""ProxylessNAS and random search on cells: one operation per decision in all cells of a kind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import cost_table
from hwnas.nn.cells.paths import CellPaths
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.objective import Linear
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import Estimator, ProxylessGradient, ProxylessOptions
from hwnas.search.sampled_paths import extract_network, sample_path, uniform_path
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace
from tests.support.tiny import tiny_batch, tiny_data

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
SPACE = CellSpace("cells", (1, 12, 12), 3, 4, 3, "cifar", "none", OPS, 2)
COSTS = cost_table(SPACE, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)
PLACES = len(SPACE.decisions)


def context(rate: float = 0.05, budget_ms: float = 0.6 * COSTS.largest_ms) -> SearchContext:
    torch.manual_seed(0)
    return SearchContext(
        space=SPACE,
        costs=COSTS,
        budget_ms=budget_ms,
        generator=torch.Generator().manual_seed(0),
        arch_learning_rate=rate,
    )


def choices(seed: int = 0) -> tuple[int, ...]:
    return SPACE.random(Random(seed)).choices


def test_a_path_computes_the_same_as_its_extracted_network() -> None:
    supernet = CellPaths(SPACE).eval()
    x = tiny_batch()[0]
    for seed in range(3):
        network = extract_network(supernet, Genotype("cells", choices(seed))).eval()
        torch.testing.assert_close(supernet(x, choices(seed)), network(x))


def test_the_gradient_of_the_logits_is_that_of_all_candidates_with_gates() -> None:
    strategy = ProxylessGradient.begin(context())
    strategy.supernet.double()
    strategy.cost_ms = strategy.cost_ms.double()
    noise = torch.randn(strategy.mask.shape, generator=torch.Generator().manual_seed(1))
    strategy.arch_logits.data = noise.double()
    images, labels = tiny_batch()
    path = list(choices())
    strategy._sample = lambda: path
    strategy.objective = Linear(strategy.objective.budget_ms, 0.0)
    probs = strategy.probs.detach()
    strategy.architecture_step((images.double(), labels))

    gates = F.one_hot(torch.tensor(path), probs.shape[1]).double().requires_grad_()

    def mix(place: int, ops, states, active: int) -> Tensor:
        terms = [gates[place, k] * ops(states, k) for k in range(len(ops))]
        return torch.stack(terms).sum(0)

    F.cross_entropy(strategy.supernet.train()(images.double(), path, mix), labels).backward()
    slope = gates.grad
    assert slope is not None
    wanted = probs * (slope - (probs * slope).sum(1, keepdim=True))
    assert strategy.arch_logits.grad is not None
    torch.testing.assert_close(strategy.arch_logits.grad, wanted, rtol=1e-8, atol=1e-12)


def test_a_node_never_draws_one_operation_twice() -> None:
    probs = torch.zeros(PLACES, 9)
    for place, decision in enumerate(SPACE.decisions):
        probs[place, : len(decision.candidates)] = 0.1
        probs[place, 1] = 0.9
        probs[place] /= probs[place].sum()
    generator = torch.Generator().manual_seed(0)
    drawn = [sample_path(SPACE, probs, generator) for _ in range(300)]
    pairs = [
        tuple(path[at : at + EDGES_PER_NODE])
        for path in drawn
        for at in range(0, PLACES, EDGES_PER_NODE)
    ]
    assert all(a != b for a, b in pairs)
    firsts = Counter(path[0] for path in drawn)
    assert 0.55 < firsts[1] / 300 < 0.75  # 0.9 of 1.4
    certain = torch.zeros_like(probs)
    certain[:, 2] = 1.0
    path = sample_path(SPACE, certain, generator)
    assert path[0] == 2 != path[1] < len(SPACE.decisions[1].candidates)


def test_nodes_of_random_paths_and_candidates_have_two_sources() -> None:
    strategy = RandomSearch.begin(context())
    low_ms, high_ms = 0.5 * COSTS.largest_ms, 0.6 * COSTS.largest_ms
    candidates = [genotype.choices for genotype in strategy.candidates(6, low_ms, high_ms, seed=0)]
    assert len(set(candidates)) == 6
    assert all(low_ms <= COSTS.network_ms(choices) <= high_ms for choices in candidates)
    drawn = [tuple(uniform_path(SPACE, COSTS, strategy.generator)) for _ in range(20)]
    assert len(set(drawn)) > 15
    for path in (*candidates, *drawn):
        sources = [choice // len(OPS) for choice in path]
        assert all(sources[at] != sources[at + 1] for at in range(0, PLACES, EDGES_PER_NODE))


def test_a_pair_of_operations_has_the_score_of_its_better_order() -> None:
    strategy = ProxylessGradient.begin(context())
    with torch.no_grad():
        strategy.arch_logits.zero_()
        # both decisions of each node want a convolution of source 0, one also likes one of source 1
        strategy.arch_logits[:, 1] = 4.0
        strategy.arch_logits[::2, 1 + len(OPS)] = 3.0
    [genotype] = strategy.candidates(1, 0.0, 2 * COSTS.largest_ms, seed=0)
    assert set(genotype.choices[:2]) == {1, 1 + len(OPS)}


@pytest.mark.parametrize("estimator", ["full", "two"])
def test_latency_alone_moves_the_search_to_fast_operations(estimator: Estimator) -> None:
    strategy = ProxylessGradient.begin(
        msgspec.structs.replace(context(0.1), options=ProxylessOptions(estimator))
    )
    strategy.set_costs(COSTS, COSTS.smallest_ms)
    strategy.objective = Linear(strategy.objective.budget_ms, 2.0)
    before = strategy.metrics().expected_ms
    for _ in range(10):
        strategy.architecture_step(tiny_batch())
    log = strategy.metrics()
    assert before is not None and log.expected_ms is not None
    assert log.expected_ms < before - 0.3
    assert log.skips is not None and log.reduction_skips is not None


@pytest.mark.parametrize("kind", [ProxylessGradient, RandomSearch])
def test_a_resumed_search_ends_as_an_uninterrupted_one(
    kind: type[ProxylessGradient] | type[RandomSearch], tmp_path: Path
) -> None:
    plan = SearchPlan(warmup_epochs=1, search_epochs=2, batch_size=8)
    data = tiny_data(16), tiny_data(16, seed=1)

    def run(folder: str, number: int) -> dict[str, Tensor]:
        (tmp_path / folder).mkdir(exist_ok=True)
        strategy = kind.begin(context())
        files = SearchFiles(tmp_path / folder / "s", tmp_path / folder / "l")
        run_search(strategy, *data, plan, 0, files, number)
        assert len(read_log(files.log)) > 2
        return strategy.state_dict()

    whole = run("whole", 2)
    run("cut", 1)
    cut_off = run("cut", 2)
    assert whole.keys() == cut_off.keys()
    assert all(torch.equal(value, cut_off[name]) for name, value in whole.items())
