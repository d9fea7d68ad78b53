"""The tree space is ProxylessNAS's for CIFAR-10, and can be built, searched and exported."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.errors import InvalidFile, UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import build, untrained
from hwnas.nn.supernet import MixedOp, Supernet
from hwnas.search.knapsack import window_knapsack
from hwnas.search.objective import Linear
from hwnas.search.proxyless.gradient import Estimator, ProxylessGradient
from hwnas.spaces.find import find_space
from hwnas.spaces.tree.space import TreeSpace, inner_widths
from hwnas.spaces.tree.toml_file import tree_names, tree_space
from tests.export.test_parity import FLOAT32_ERROR, both, error_of, randomise
from tests.support.tiny import tiny_batch, tiny_data

WHOLE = tree_space("tree", (3, 32, 32), 10)
TINY = TreeSpace("tree", (1, 12, 12), 3, cells=(1, 1), stem_width=6, base_width=16, last_width=40)
"""Two cells of widths 6 and 10, the second of stride 2: 24 decisions."""
RNG = Random(0)
NETWORKS = [TINY.architecture(TINY.random(RNG)) for _ in range(8)]
TREE_BLOCKS = list(dict.fromkeys(block for network in NETWORKS for block in network.blocks))
COMPUTING = [block for block in TREE_BLOCKS if block.op != "identity"]


def test_the_space_of_the_paper_has_54_cells_and_648_decisions_of_7_candidates() -> None:
    assert sum(WHOLE.cells) == 54
    assert [len(decision.candidates) for decision in WHOLE.decisions] == [7] * 648
    assert WHOLE.size == 7**648


def test_its_blocks_widen_from_72_to_400_and_the_size_falls_from_32_to_8() -> None:
    """Inner widths of B = 18, F = 400, as in the released configuration."""
    widths = inner_widths(WHOLE)
    assert widths[:9] == [18, 18, 20, 22, 24, 24, 26, 28, 30] and widths[-1] == 100
    blocks = WHOLE.architecture(WHOLE.default).blocks
    outputs = [block for block in blocks if block.op == "bn_relu_conv_bn"]
    assert [block.out_channels for block in outputs] == [4 * width for width in widths]
    assert [block.out_size for block in outputs] == [32] * 18 + [16] * 18 + [8] * 18


def test_the_torch_module_has_the_parameters_that_are_counted() -> None:
    for genotype in (TINY.default, TINY.random(Random(1))):
        architecture = TINY.architecture(genotype)
        counted = sum(parameter.numel() for parameter in build(architecture).parameters())
        assert counted == architecture.params


@pytest.mark.parametrize("block", TREE_BLOCKS, ids=lambda block: block.key)
def test_a_block_is_known_to_the_latency_model_and_reads_back(block: Block) -> None:
    assert Block.from_key(block.key) == block
    assert bool(block.kernels) == (block.op != "identity")
    given = [torch.zeros(2, *block.in_shape)] * block.num_inputs
    out = (block.out_channels, block.out_size, block.out_size)
    shape = (block.out_channels,) if block.op == "norm_logits" else out
    assert block_module(block)(*given).shape == (2, *shape)


def test_a_cell_is_its_formula() -> None:
    """One cell whose twelve edges are skips: both branches are four times their half."""
    space = msgspec.structs.replace(TINY, cells=(1,), candidates=("skip",), last_width=24)
    network = build(space.architecture(space.default)).double()
    randomise(network.eval())
    blocks = space.architecture(space.default).blocks
    named = {block.op: module for block, module in zip(blocks, network.blocks, strict=True)}
    norms = [m for b, m in zip(blocks, network.blocks, strict=True) if b.op == "identity_bn"]
    images = torch.randn(2, 1, 12, 12, dtype=torch.float64)
    stem = named["conv_bn"](images)
    root = named["bn_relu_group_conv"](named["bn_conv"](stem))
    halves = root.chunk(2, dim=1)
    cell = sum(norm(4 * half) + half for norm, half in zip(norms, halves, strict=True))
    shortcut = F.pad(stem, (0, 0, 0, 0, 0, 24 - 6))
    expected = named["norm_logits"](named["bn_relu_conv_bn"](cell) + shortcut)
    torch.testing.assert_close(network(images), expected)


def test_each_branch_sees_both_groups_of_the_root() -> None:
    conv = block_module(Block("bn_relu_group_conv", 6, 12, 3, 1, 1, 8, "relu")).eval()
    x = torch.rand(1, 6, 8, 8)
    x[:, :3] = 0.0
    touched = (conv(x) != 0).any(dim=(0, 2, 3))
    assert touched[:6].any() and not touched[:6].all()
    assert touched[6:].any() and not touched[6:].all()


@pytest.mark.parametrize("seed", range(2))
def test_a_path_of_the_supernet_is_the_network_cut_from_it(seed: int) -> None:
    torch.manual_seed(seed)
    supernet = Supernet(TINY)
    randomise(supernet.eval())
    genotype = TINY.random(Random(seed))
    images, _ = tiny_batch()
    torch.testing.assert_close(
        supernet.extract(genotype).eval()(images), supernet(images, genotype.choices)
    )


def tree_search(estimator: Estimator = "full") -> ProxylessGradient:
    torch.manual_seed(0)
    costs = cost_table(TINY, lambda block: 0.01 * len(block.kernels), 0.0)
    generator = torch.Generator().manual_seed(0)
    return ProxylessGradient(Supernet(TINY), costs, 1.0, generator, estimator=estimator)


def test_the_gradient_of_the_logits_is_the_formula_on_a_tree_too() -> None:
    """``dL/dalpha_i = p_i (dL/dg_i - sum_j p_j dL/dg_j)`` with gates that autograd sees."""
    strategy = tree_search()
    strategy.supernet.double()
    strategy.cost_ms = strategy.cost_ms.double()
    strategy.arch_logits.data = torch.randn(24, 7, dtype=torch.float64)
    path = list(TINY.random(Random(3)).choices)
    images, labels = tiny_batch()
    images = images.double()

    gates = torch.zeros(24, 7, dtype=torch.float64)
    gates[range(24), path] = 1
    gates.requires_grad_()

    def mix(place: int, op: MixedOp, x: Tensor, active: int) -> Tensor:
        return torch.stack([gates[place, j] * op(x, j) for j in range(len(op))]).sum(0)

    loss = F.cross_entropy(strategy.supernet.train()(images, path, mix), labels)
    [by_gates] = torch.autograd.grad(loss, gates)
    probs = strategy.probs.detach()
    expected = probs * (by_gates - (probs * by_gates).sum(1, keepdim=True))
    strategy._sample = lambda: path  # pyright: ignore[reportPrivateUsage]
    strategy.objective = Linear(strategy.objective.budget_ms, 0.0)
    strategy.architecture_step((images, labels))
    torch.testing.assert_close(strategy.arch_logits.grad, expected)


@pytest.mark.parametrize("estimator", ["full", "two"])
def test_a_search_moves_weights_of_its_path_and_logits_only_then(estimator: Estimator) -> None:
    strategy = tree_search(estimator)
    [batch] = tiny_data(16).in_order()
    before = strategy.arch_logits.detach().clone()
    strategy.weight_step(batch, 0.1)
    assert torch.equal(strategy.arch_logits, before)
    strategy.architecture_step(batch)
    assert not torch.equal(strategy.arch_logits, before)
    assert all(TINY.architecture(genotype) for genotype in strategy.candidates(2, 0.5, 1.0, 0))


def test_costs_price_every_edge_and_the_rest_once() -> None:
    """The table's latency of a network is the sum over its blocks."""
    costs = cost_table(TINY, lambda block: float(block.macs + 1), 0.5)
    for seed in range(3):
        genotype = TINY.random(Random(seed))
        blocks = TINY.architecture(genotype).blocks
        alone = sum(block.macs + 1 for block in blocks if block.op != "identity")
        assert costs.network_ms(genotype.choices) == 0.5 + alone


def test_of_648_decisions_the_derived_network_still_fills_the_budget() -> None:
    costs = cost_table(WHOLE, lambda block: 1e-3 * len(block.kernels) + 1e-9 * block.macs, 0.1)
    scores = np.random.default_rng(0).normal(size=(648, 7)).tolist()
    budget_ms = 0.5 * (costs.smallest_ms + costs.largest_ms)
    choices = window_knapsack(scores, costs, 0.95 * budget_ms, budget_ms)
    assert 0.95 * budget_ms <= costs.network_ms(choices) <= budget_ms


@both
@pytest.mark.parametrize("block", COMPUTING, ids=lambda block: block.key)
def test_every_block_of_a_tree_as_a_file(format: Format, block: Block, tmp_path: Path) -> None:
    shape = block.in_shape
    assert error_of(untrained((block,)), shape, format, tmp_path) < FLOAT32_ERROR


@both
@pytest.mark.parametrize("candidate", [None, "skip"])
def test_a_tree_as_a_file(format: Format, candidate: str | None, tmp_path: Path) -> None:
    genotype = TINY.random(Random(0)) if candidate is None else TINY.uniform(candidate)
    network: nn.Module = build(TINY.architecture(genotype))
    assert error_of(network, TINY.input_shape, format, tmp_path) < 1e-5


@pytest.mark.parametrize("name", tree_names())
def test_every_shipped_tree_is_called_as_its_file(name: str) -> None:
    space = find_space(name, (3, 32, 32), 10)
    assert space.name.startswith(f"{name}-")
    assert all(baseline.architecture.macs for baseline in space.baselines())


FILE = """family = "tree"
name = "mine"
title = "Mine"
resolution = { least = 12, most = 32, step = 4 }
cells = [1, 1]
base_width = 16
last_width = 40
candidates = ["sep3", "skip"]
"""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cells = [1, 1]", "cells = []"), r"length >= 1 - at `\$.cells`"),
        (("cells = [1, 1]", "depth = 2"), r"unknown field `depth`|missing required field `cells`"),
        (('"sep3", "skip"', '"sep9"'), r"Invalid enum value 'sep9' - at `\$.candidates\[0\]`"),
        (('"sep3", "skip"', '"skip", "skip"'), r"each candidate once - at `\$.candidates`"),
        (
            ('"tree"', '"three"'),
            r'expected "plain" or "tree" or none, got \'three\' - at `\$.family`',
        ),
        (("last_width = 40", "last_width = 4"), r">= 8 - at `\$.last_width`"),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_place(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE.replace(*change))
    with pytest.raises(InvalidFile, match=message) as caught:
        find_space(str(path), (1, 12, 12), 3)
    assert str(path) in str(caught.value)


def test_a_file_of_ones_own_is_a_space(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    space = find_space(str(path), (1, 12, 12), 3)
    assert space.size == 2**24
    with pytest.raises(UsageError, match="resolution is 12 to 32 px in steps of 4"):
        find_space(str(path), (1, 14, 14), 3)


def test_a_tree_that_narrows_is_one_clear_error() -> None:
    narrow = msgspec.structs.replace(TINY, stem_width=48)
    with pytest.raises(UsageError, match="stage 1 cell 1 has 48 channels in and 24 out"):
        narrow.architecture(narrow.default)


def test_a_size_that_cannot_be_halved_is_one_clear_error() -> None:
    odd = msgspec.structs.replace(TINY, input_shape=(1, 13, 13))
    with pytest.raises(UsageError, match="stage 2 cell 1 halves 13 px"):
        odd.architecture(odd.default)
