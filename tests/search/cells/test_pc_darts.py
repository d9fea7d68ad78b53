"""PC-DARTS: bypassed channels, weights of edges, and memory."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hwnas.errors import UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.nn.cells.supernet import CellSupernet, MixedEdge
from hwnas.search.cells.costs import edge_softmax, kind_expected_ms
from hwnas.search.cells.darts import Darts
from hwnas.search.cells.pc_darts import PartialDarts
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import DARTS_OPS
from hwnas.spaces.cells.layout import CellPlace, cell_places
from hwnas.spaces.cells.space import CellSpace, cell_space
from tests.support.tiny import tiny_batch, tiny_data

OPS = ("skip_connect", "sep_conv_3x3")
SPACE = CellSpace("cells", (1, 12, 12), 3, 8, 3, "cifar", "none", OPS, 2)
COSTS = cost_table(SPACE, lambda block: 1.0 if block.op == "sep_conv" else 0.1, 0.0)


def searcher(rate: float = 0.05) -> PartialDarts:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    return PartialDarts.begin(
        SearchContext(
            space=SPACE,
            costs=COSTS,
            budget_ms=COSTS.largest_ms / 2,
            generator=generator,
            arch_learning_rate=rate,
        )
    )


def edge(partial: int, reduction: bool = False) -> MixedEdge:
    first = cell_places(SPACE.stack, 2, 2)[0]
    place: CellPlace = first._replace(reduction=reduction, channels=8)
    torch.manual_seed(0)
    return MixedEdge(place, 0, DARTS_OPS, "pool", False, partial)


def test_its_search_net_has_the_published_number_of_weights() -> None:
    with torch.device("meta"):
        space = cell_space((3, 32, 32), 10, channels=16, layers=8)
        supernet = CellSupernet(space, DARTS_OPS, partial=4)
    assert sum(weight.numel() for weight in supernet.parameters()) == 299_578


@pytest.mark.parametrize("reduction", [False, True])
def test_other_channels_bypass_the_operations_or_are_pooled(reduction: bool) -> None:
    x = torch.randn(2, 8, 12, 12)
    mixed = edge(4, reduction)
    weights = torch.zeros(len(DARTS_OPS))
    weights[DARTS_OPS.index("sep_conv_3x3")] = 1.0
    out = mixed(x, weights, None)
    assert out.shape == (2, 8, *((6, 6) if reduction else (12, 12)))
    passed = torch.max_pool2d(x, 2) if reduction else x
    # the shuffle writes part p's channel c to place 4 c + p, of two channels each
    for place in range(8):
        part, channel = place % 4, place // 4
        if part:
            assert torch.equal(out[:, place], passed[:, 2 * part + channel])
    narrow = mixed.ops["sep_conv_3x3"](x[:, :2])
    torch.testing.assert_close(out[:, [0, 4]], narrow)


@pytest.mark.parametrize("reduction", [False, True])
def test_with_all_channels_it_is_the_edge_of_darts(reduction: bool) -> None:
    x, weights = torch.randn(2, 8, 12, 12), torch.randn(len(DARTS_OPS))
    mixed = edge(1, reduction)
    direct = [weights[DARTS_OPS.index(op)] * module(x) for op, module in mixed.ops.items()]
    torch.testing.assert_close(mixed(x, weights, None), torch.stack(direct).sum(0))
    net = CellSupernet(SPACE, DARTS_OPS, partial=1).eval()
    images = torch.randn(2, 1, 12, 12)
    alpha = [torch.rand(edge_count(2), len(DARTS_OPS)) for _ in range(2)]
    ones = torch.ones(edge_count(2))
    assert torch.equal(net(images, *alpha), net(images, *alpha, None, (ones, ones)))


def saved_bytes(supernet: CellSupernet) -> int:
    """Return the bytes that autograd saves in a forward pass, without weights."""
    own = {weight.data_ptr() for weight in supernet.parameters()}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    probs = torch.full((14, len(DARTS_OPS)), 0.1, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        supernet(torch.randn(2, 1, 12, 12), probs, probs)
    return sum(saved.values())


def test_a_quarter_of_the_channels_needs_less_than_half_the_memory() -> None:
    space = cell_space((1, 12, 12), 3, channels=16, layers=3)
    assert saved_bytes(CellSupernet(space, partial=4)) < 0.5 * saved_bytes(CellSupernet(space))


def test_the_weights_of_edges_are_a_softmax_over_those_into_a_node() -> None:
    beta = torch.randn(edge_count(4))
    weights = edge_softmax(beta)
    for node in range(4):
        part = weights[edge_count(node) : edge_count(node) + 2 + node]
        torch.testing.assert_close(part, beta[edge_count(node) :][: 2 + node].softmax(0))


def test_the_expected_latency_keeps_pairs_of_edges_by_their_weights() -> None:
    beta = torch.randn(edge_count(2), dtype=torch.float64)
    probs = torch.rand(edge_count(2), 3, dtype=torch.float64).softmax(1)
    edge_ms = torch.rand(edge_count(2), 3, dtype=torch.float64)
    edge_ms[:, 0] = 0
    real = probs[:, 1:] / (1 - probs[:, :1])
    each = (real * edge_ms[:, 1:]).sum(1)
    wanted = each[0] + each[1]
    pairs = list(combinations((2, 3, 4), 2))
    shares = torch.stack([beta[a] + beta[b] for a, b in pairs]).softmax(0)
    for share, (a, b) in zip(shares, pairs, strict=True):
        wanted = wanted + share * (each[a] + each[b])
    torch.testing.assert_close(kind_expected_ms(probs, edge_ms, 0, beta), wanted)


def test_an_architecture_step_trains_operations_and_edges_only() -> None:
    strategy = searcher()
    strategy.weight_step(tiny_batch(), 0.05)
    before = {name: value.clone() for name, value in strategy.weights.state_dict().items()}
    arch = [value.detach().clone() for value in strategy.arch]
    strategy.architecture_step(tiny_batch())
    assert len(arch) == 4
    assert all(not torch.equal(old, new) for old, new in zip(arch, strategy.arch, strict=True))
    after = strategy.weights.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_an_edge_of_great_weight_is_kept_with_a_less_certain_operation() -> None:
    strategy = searcher()
    with torch.no_grad():
        for part in strategy.alpha:
            part.zero_()
            part[2:, 2] = torch.tensor([1.0, 1.0, 0.5])  # edges into node 3
        assert {e.source for e in cells(strategy).normal.nodes[1]} == {0, 1}
        for part in strategy.beta:
            part.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0, 2.0]))
    assert {e.source for e in cells(strategy).normal.nodes[1]} == {1, 2}


def cells(strategy: PartialDarts):
    return SPACE.cells(strategy.candidates(1, 0.0, 10 * COSTS.largest_ms, 0)[0])


def test_a_resumed_search_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    plan = SearchPlan(warmup_epochs=1, search_epochs=2, batch_size=8)
    data = tiny_data(16), tiny_data(16, seed=1)

    def run(folder: str, number: int) -> dict[str, Tensor]:
        (tmp_path / folder).mkdir(exist_ok=True)
        strategy = searcher()
        files = SearchFiles(tmp_path / folder / "s", tmp_path / folder / "l")
        run_search(strategy, *data, plan, 0, files, number)
        return strategy.state_dict()

    whole = run("whole", 2)
    run("cut", 1)
    cut = run("cut", 2)
    assert {"beta.normal", "adam.beta.reduction.step"} <= whole.keys() == cut.keys()
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_channels_that_cannot_be_split_are_rejected() -> None:
    space = CellSpace("cells", (1, 12, 12), 3, 6, 3, "cifar", "none", OPS, 2)
    with pytest.raises(
        UsageError, match="6 channels cannot be split into 4 equal parts of at least 2; exp"
    ):
        PartialDarts.check(space)


def test_a_step_computes_less_than_a_step_of_darts() -> None:
    space = cell_space((3, 32, 32), 10)
    partial, whole = PartialDarts.traits.step_macs, Darts.traits.step_macs
    assert partial is not None and whole is not None
    assert partial(space) < 0.3 * whole(space)
