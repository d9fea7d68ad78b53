"""One-stage ISTA-NAS: the child is the search net, and settled nodes stay as they are."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.nn.build import build
from hwnas.nn.cells.child import absorb_gates, last_norm
from hwnas.nn.cells.supernet import MixedEdge
from hwnas.search.cells.ista.one_stage import IstaOneStage
from hwnas.search.cells.training import active_ops
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.training.checkpoint import load_weights, save_checkpoint
from tests.support.machines.killed import Killed
from tests.support.tiny import tiny_batch, tiny_data

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3", "dil_conv_3x3")
SPACE = CellSpace("cells-norm", (1, 12, 12), 3, 4, 3, "cifar", "pool and skip", OPS, 2)
COSTS = cost_table(SPACE, lambda block: 1.0 if "conv" in block.op else 0.1, 0.0)
NODES = 2 * SPACE.nodes


def searcher(budget_ms: float = 2 * COSTS.largest_ms, space: CellSpace = SPACE) -> IstaOneStage:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    costs = COSTS if space is SPACE else cost_table(space, lambda block: 1.0, 0.0)
    return IstaOneStage.begin(
        SearchContext(
            space=space,
            costs=costs,
            budget_ms=budget_ms,
            generator=generator,
            arch_learning_rate=0.05,
        )
    )


def chosen(strategy: IstaOneStage) -> Genotype:
    return Genotype(strategy.supernet.space.name, strategy.choices)


def trained(strategy: IstaOneStage, steps: int = 5) -> IstaOneStage:
    """Search, then settle all nodes, so that the batch norms are trained too."""
    strategy.begin_epoch(warm_up=False)
    for _ in range(steps):
        strategy.weight_step(tiny_batch(), 0.1)
    strategy.settled = [True] * len(strategy.settled)
    strategy.begin_epoch(warm_up=False)
    for _ in range(steps):
        strategy.weight_step(tiny_batch(), 0.1)
    return strategy


def outputs(strategy: IstaOneStage, child: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the outputs of both in float64, so that rounding does not matter."""
    normal, reduction = (part.double() for part in strategy.gates())
    supernet, active = strategy.supernet.double(), active_ops((normal, reduction))
    return supernet(x.double(), normal, reduction, active), child.double()(x.double())


@pytest.mark.parametrize("train", [False, True])
def test_the_child_computes_what_the_search_net_does(train: bool) -> None:
    strategy = trained(searcher())
    gates = torch.cat([part[part != 0] for part in strategy.gates()])
    assert (gates < 0).any() and (gates - 1).abs().min() > 1e-3  # else nothing is absorb_gates
    child = strategy.network(chosen(strategy))
    strategy.supernet.train(train)
    output, wanted = outputs(strategy, child.train(train), tiny_batch()[0])
    assert (output - wanted).norm() <= 1e-6 * wanted.norm()


def test_the_final_training_starts_where_the_search_ended(tmp_path: Path) -> None:
    strategy = trained(searcher())
    inherited = tmp_path / "inherited.safetensors"
    save_checkpoint(inherited, strategy.network(chosen(strategy)).state_dict(), {})
    child = build(SPACE.architecture(chosen(strategy)), dropout=0.0)
    load_weights(child, inherited)
    strategy.supernet.eval()
    output, wanted = outputs(strategy, child.eval(), tiny_batch()[0])
    assert (output - wanted).norm() <= 1e-6 * wanted.norm()


def test_only_the_selected_network_inherits_weights() -> None:
    strategy = searcher()
    first, *others = strategy.candidates(4, 0.0, 2 * COSTS.largest_ms, seed=0)
    assert strategy.inherits(first) and first == chosen(strategy)
    assert others and not any(map(strategy.inherits, others))


def test_the_child_has_the_batch_norms_times_the_gates() -> None:
    strategy = trained(searcher())
    child = strategy.network(chosen(strategy))
    plain = absorb_gates(
        strategy.supernet,
        chosen(strategy),
        *(torch.zeros(5, len(OPS)),) * 2,
    )
    output, before = outputs(strategy, plain.eval(), tiny_batch()[0])
    assert (output - before).norm() > 1e-2 * output.norm()
    shifted = [
        last_norm(block).bias
        for block in child.blocks
        if any(isinstance(part, nn.BatchNorm2d) for part in block.modules())
    ]
    assert all((bias != 0).any() for bias in shifted)


def test_all_operations_of_darts_absorb_their_gates() -> None:
    space = cell_space((3, 16, 16), 10, channels=4, layers=3, norm="pool and skip")
    strategy = searcher(1e9, space)
    x = torch.randn(2, 3, 16, 16)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        for b in strategy.b:
            b.data = torch.randn(b.shape, generator=generator, dtype=b.dtype)
        strategy.begin_epoch(warm_up=True)
        child = strategy.network(chosen(strategy)).eval()
        strategy.supernet.eval()
        output, wanted = outputs(strategy, child, x)
        assert (output - wanted).norm() <= 1e-6 * wanted.norm()


def norms_trained(strategy: IstaOneStage, number: int) -> set[bool]:
    kind, node = divmod(number, SPACE.nodes)
    first = edge_count(node)
    return {
        last_norm(op).weight.requires_grad
        for cell in strategy.supernet.mixed
        if cell.reduction == bool(kind)
        for edge in cell.edges[first : first + 2 + node]
        if isinstance(edge, MixedEdge)
        for op in edge.ops.values()
    }


def test_a_node_with_constant_strengths_settles_and_trains_its_batch_norms() -> None:
    strategy = searcher()
    strategy.begin_epoch(warm_up=False)
    assert strategy.settled == [False] * NODES  # not trained yet
    assert norms_trained(strategy, 0) == {False}
    for number, b in enumerate(strategy.b):
        b.data += 0.0 if number == 1 else 0.1
    strategy.begin_epoch(warm_up=False)
    assert strategy.settled == [number == 1 for number in range(NODES)]
    assert [norms_trained(strategy, n) for n in range(NODES)] == [
        {number == 1} for number in range(NODES)
    ]
    gates, b, support = strategy.gates(), strategy.b[1].clone(), strategy.support[1]
    strategy.weight_step(tiny_batch(), 0.05)
    assert strategy.metrics().live_nodes == NODES - 1
    assert torch.equal(strategy.b[1], b)
    first = edge_count(1)
    assert torch.equal(strategy.gates()[0][first : first + 3], gates[0][first : first + 3])
    assert not torch.equal(strategy.gates()[1], gates[1])
    # a settled node keeps its operations, even if others get stronger
    strategy.matrices[1] = strategy.matrices[1][:, ::-1].copy()
    strategy.begin_epoch(warm_up=False)
    assert strategy.support[1] == support


def test_a_warm_up_trains_weights_only() -> None:
    strategy = searcher()
    before = [part.detach().clone() for part in strategy.b]
    for _ in range(2):
        strategy.begin_epoch(warm_up=True)
        strategy.weight_step(tiny_batch(), 0.05)
    assert strategy.settled == [False] * NODES
    assert all(torch.equal(old, new) for old, new in zip(before, strategy.b, strict=True))
    strategy.begin_epoch(warm_up=False)
    strategy.weight_step(tiny_batch(), 0.05)
    assert any(not torch.equal(old, new) for old, new in zip(before, strategy.b, strict=True))


def test_a_smaller_budget_reopens_settled_nodes() -> None:
    strategy = trained(searcher())
    before_ms = COSTS.network_ms(strategy.choices)
    budget_ms = 0.8 * before_ms
    strategy.set_costs(COSTS, budget_ms)
    strategy.begin_epoch(warm_up=False)
    assert COSTS.network_ms(strategy.choices) <= budget_ms
    assert strategy.settled == [False] * NODES


def test_a_resumed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    train, valid = tiny_data(24), tiny_data(16, seed=1)
    plan = SearchPlan(warmup_epochs=1, search_epochs=3, batch_size=8)

    def run(folder: str, kill_at: int = 99) -> IstaOneStage:
        (tmp_path / folder).mkdir(exist_ok=True)
        files = SearchFiles(tmp_path / folder / "s", tmp_path / folder / "l")

        def kill(line) -> None:
            if line.epoch == kill_at:
                raise Killed

        strategy = searcher()
        strategy.tolerance = 0.2  # some nodes settle on the way
        run_search(strategy, train, valid, plan, 0, files, on_line=kill)
        return strategy

    straight = run("straight")
    with pytest.raises(Killed):
        run("cut", kill_at=3)
    resumed = run("cut")
    assert sum(straight.settled) > 0 and resumed.settled == straight.settled
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    live = [line.live_nodes for line in read_log(tmp_path / "cut" / "l")]
    assert live[0] == NODES and live[-1] == straight.settled.count(False)


def test_the_first_candidate_is_the_selected_network() -> None:
    strategy = trained(searcher())
    [genotype] = strategy.candidates(1, 0.0, 2 * COSTS.largest_ms, seed=0)
    assert genotype.choices == strategy.choices
    assert strategy.weight_step(tiny_batch(), 0.05).loss.isfinite()


def test_a_space_without_batch_norms_in_skips_is_refused() -> None:
    space = msgspec.structs.replace(SPACE, norm="none", name="cells")
    with pytest.raises(UsageError, match="space 'cells' have none; use --space cells-norm"):
        searcher(1e9, space)
