"""ISTA-NAS on cells small enough to be searched in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.nn.cells.supernet import CellSupernet
from hwnas.search.cells.costs import joint_choices
from hwnas.search.cells.ista.sparse_recovery import gate_bias
from hwnas.search.cells.ista.two_stage import Ista
from hwnas.search.cells.training import active_ops
from hwnas.search.log import LogLine
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.space import EDGES_PER_NODE, CellSpace
from tests.support.machines.killed import Killed
from tests.support.tiny import tiny_batch, tiny_costs, tiny_data, tiny_space

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
SPACE = CellSpace("cells", (1, 12, 12), 3, 4, 3, "cifar", "none", OPS, 2)
COSTS = cost_table(SPACE, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)
FREE_MS = 2 * COSTS.largest_ms
TIGHT_MS = 1.02 * joint_choices(SPACE, COSTS, distinct_sources=False).costs.smallest_ms


def searcher(budget_ms: float = FREE_MS, rate: float = 0.05) -> Ista:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    return Ista.begin(
        SearchContext(
            space=SPACE,
            costs=COSTS,
            budget_ms=budget_ms,
            generator=generator,
            arch_learning_rate=rate,
        )
    )


def test_gates_are_the_strengths_if_these_explain_the_measurements() -> None:
    strategy = searcher()
    for number, (a, support) in enumerate(zip(strategy.matrices, strategy.support, strict=True)):
        z = np.zeros(a.shape[1])
        z[list(support)] = (0.7, -0.4)
        strategy.b[number].data.copy_(torch.from_numpy(a @ z))
        strategy.bias[number] = torch.from_numpy(gate_bias(a, z, support))
    flat = torch.cat([gates[gates != 0] for gates in strategy.gates()])
    assert len(flat) == 2 * SPACE.nodes * EDGES_PER_NODE
    torch.testing.assert_close(sorted(flat.tolist()), sorted([0.7, -0.4] * 2 * SPACE.nodes))


def test_a_judged_network_computes_what_the_search_net_does() -> None:
    strategy = searcher()
    for _ in range(3):
        strategy.weight_step(tiny_batch(), 0.1)
    gates = strategy.gates()
    assert min(part.min() for part in gates) < 0  # weights of 1 would be another network
    x = tiny_batch()[0]
    network = strategy.network(Genotype(SPACE.name, strategy.choices)).eval()
    strategy.supernet.eval()
    with torch.no_grad():
        wanted = strategy.supernet(x, *gates, active_ops(gates))
        torch.testing.assert_close(network(x), wanted)


def test_a_pair_that_is_not_selected_is_judged_with_its_own_gates() -> None:
    strategy = searcher()
    _, *others = strategy.candidates(3, 0.0, FREE_MS, seed=0)
    gates = strategy.genotype_gates(others[0])
    strategy._select(others[0].choices)
    for part, wanted in zip(gates, strategy.gates(), strict=True):
        torch.testing.assert_close(part, wanted)


def test_the_gradient_of_a_gate_is_the_column_of_its_operation() -> None:
    strategy = searcher()
    normal, _ = strategy.gates()
    (place, column), *_ = (normal != 0).nonzero().tolist()
    normal[place, column].backward()
    node = 0 if place < edge_count(1) else 1
    candidate = (place - edge_count(node)) * len(OPS) + column
    gradient = strategy.b[node].grad
    assert gradient is not None
    torch.testing.assert_close(
        gradient, torch.from_numpy(strategy.matrices[node][:, candidate]), rtol=1e-6, atol=1e-7
    )


def test_only_selected_operations_are_computed() -> None:
    strategy = searcher()
    called: list[str] = []
    for name, module in strategy.supernet.named_modules():
        if ".ops." in name and name.count(".") == 5:
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    strategy.weight_step(tiny_batch(), 0.05)
    assert len(called) == len(SPACE.places) * SPACE.nodes * EDGES_PER_NODE


def test_the_strongest_operations_within_the_budget_are_selected() -> None:
    strategy = searcher()
    for z, support in zip(strategy.z, strategy.support, strict=True):
        weakest = min(abs(z[list(support)]))
        others = np.delete(abs(z), list(support))
        assert weakest >= others.max() - 1e-15
    tight = searcher(TIGHT_MS)
    assert COSTS.network_ms(tight.choices) <= TIGHT_MS < COSTS.network_ms(strategy.choices)


def test_a_budget_that_excludes_the_strongest_operation_flips_the_choice() -> None:
    def ops(strategy: Ista) -> set[str]:
        column = OPS.index("sep_conv_3x3")
        for a, b in zip(strategy.matrices, strategy.b, strict=True):
            z = np.full(a.shape[1], 1e-4)
            z[[column, len(OPS) + column]] = 1.0
            b.data.copy_(torch.from_numpy(a @ z))
        strategy.begin_epoch(False)
        return {OPS[choice % len(OPS)] for choice in strategy.choices}

    assert "sep_conv_3x3" in ops(searcher())
    assert "sep_conv_3x3" not in ops(searcher(TIGHT_MS))


def test_slower_operations_are_shrunk_more() -> None:
    strategy = searcher()
    strategy.penalty, strategy.cost_weight = 2e-4, 0.0
    column = [number % len(OPS) == OPS.index("sep_conv_3x3") for number in range(2 * len(OPS))]
    before = abs(strategy.recover_strengths()[0])[column].sum()
    strategy.cost_weight = 5.0
    assert abs(strategy.recover_strengths()[0])[column].sum() < before


def test_an_architecture_step_changes_the_measurements_and_no_weight() -> None:
    strategy = searcher()
    strategy.weight_step(tiny_batch(), 0.05)
    before = {name: value.clone() for name, value in strategy.weights.state_dict().items()}
    b = [part.detach().clone() for part in strategy.b]
    strategy.architecture_step(tiny_batch())
    after = strategy.weights.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert any(not torch.equal(old, new) for old, new in zip(b, strategy.b, strict=True))


def test_a_resumed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train, valid = tiny_data(24), tiny_data(16, seed=1)
    plan = SearchPlan(warmup_epochs=1, search_epochs=2, batch_size=8)

    def files(name: str) -> SearchFiles:
        (tmp_path / name).mkdir(exist_ok=True)
        return SearchFiles(tmp_path / name / "search.safetensors", tmp_path / name / "log.jsonl")

    def kill(line: LogLine) -> None:
        if line.epoch == 2:
            raise Killed

    straight, cut, resumed = searcher(), searcher(), searcher()
    run_search(straight, train, valid, plan, 0, files("straight"))
    with pytest.raises(Killed):
        run_search(cut, train, valid, plan, 0, files("cut"), on_line=kill)
    run_search(resumed, train, valid, plan, 0, files("cut"))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert resumed.choices == straight.choices


def test_candidates_lie_in_the_window() -> None:
    low_ms, high_ms = 0.6 * COSTS.largest_ms, 0.7 * COSTS.largest_ms
    genotypes = searcher().candidates(5, low_ms, high_ms, seed=0)
    assert len({genotype.choices for genotype in genotypes}) == 5
    assert all(low_ms <= COSTS.network_ms(genotype.choices) <= high_ms for genotype in genotypes)


def test_a_space_without_nodes_is_refused() -> None:
    space = tiny_space()
    with pytest.raises(UsageError, match="'ista' chooses operations of a cell's nodes"):
        Ista.begin(
            SearchContext(
                space=space, costs=tiny_costs(space), budget_ms=2.5, generator=torch.Generator()
            )
        )


def test_more_measurements_than_candidates_are_refused() -> None:
    # node 2 has two sources of three operations
    with pytest.raises(UsageError, match="7 measurements of 6 operations; expected 1 to 6"):
        Ista(CellSupernet(SPACE, OPS), COSTS, FREE_MS, torch.Generator(), measurements=7)
    assert [len(b) for b in searcher().b] == [6, 7] * 2


def test_a_few_steps_on_the_weights_already_learn() -> None:
    # gates of 1e-3, as the paper's code begins with, leave the classifier without a signal
    strategy, batch = searcher(), next(tiny_data(48).in_order())
    losses = [strategy.weight_step(batch, 0.05).loss for _ in range(25)]
    assert min(losses[-3:]) < 0.8 * losses[0]
