"""Networks of cells: the modules compute what their blocks describe, in DARTS's order."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.graph import chained
from hwnas.errors import UsageError
from hwnas.nn.auxiliary import AuxiliaryHead, WithAuxiliary
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import Network, WiredNetwork, build, untrained
from hwnas.nn.cells.ops import FactorizedReduce
from hwnas.nn.network import drop_path
from hwnas.spaces.cells.genotype import Cell, CellGenotype, Edge, published_genotype
from hwnas.spaces.cells.layout import Norm
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.spaces.tree.toml_file import tree_space
from tests.support.networks.published_cells import COUNTS
from tests.support.tiny import tiny_space

CIFAR = cell_space((3, 32, 32), 10, channels=36, layers=20)
IMAGENET = cell_space((3, 224, 224), 1000, channels=48, layers=14)
TINY = cell_space((3, 16, 16), 10, channels=4, layers=3)
DARTS = published_genotype("DARTS_V2")


def network_of(space: CellSpace, name: str = "DARTS_V2") -> WiredNetwork:
    network = build(space.architecture(published_genotype(name)))
    assert isinstance(network, WiredNetwork)
    return network


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_published_cells_have_their_counts_as_modules(name: str) -> None:
    with torch.device("meta"):
        assert params(network_of(CIFAR, name)) == COUNTS[name].cifar
        assert params(network_of(IMAGENET, name)) == COUNTS[name].imagenet


@pytest.mark.parametrize("norm", ["pool", "pool and skip"])
@pytest.mark.parametrize("name", ["DARTS_V2", "AmoebaNet", "ISTA_onestage"])
def test_batch_norms_after_pools_and_skips_are_modules_too(name: str, norm: Norm) -> None:
    space = cell_space((3, 32, 32), 10, 8, 5, norm=norm)
    architecture = space.architecture(published_genotype(name))
    assert params(build(architecture)) == architecture.params > COUNTS[name].small


def test_a_separable_convolution_is_relu_depthwise_pointwise_norm_twice() -> None:
    block = Block("sep_conv", 4, 6, 5, 2, 1, 8, "relu")
    module = block_module(block).eval()
    x = torch.randn(2, 4, 8, 8)
    weights = dict(module.named_parameters())

    def half(x: Tensor, part: int, stride: int) -> Tensor:
        depthwise = F.conv2d(F.relu(x), weights[f"{part}.depthwise.weight"], None, stride, 2, 1, 4)
        y = F.conv2d(depthwise, weights[f"{part}.pointwise.weight"])
        return y / (1 + 1e-5) ** 0.5

    torch.testing.assert_close(module(x), half(half(x, 0, 2), 1, 1))


def test_a_dilated_convolution_sees_every_second_pixel() -> None:
    module = block_module(Block("dil_conv", 1, 1, 3, 1, 1, 9, "relu")).eval()
    x = torch.zeros(1, 1, 9, 9)
    x[0, 0, 4, 4] = 1.0
    touched = module(x)[0, 0].nonzero().tolist()
    assert touched == [[row, column] for row in (2, 4, 6) for column in (2, 4, 6)]


def test_a_factorized_reduction_uses_even_and_odd_pixels() -> None:
    module = block_module(Block("factorized_reduce", 1, 2, 1, 2, 1, 4, "relu")).eval()
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    scale = (1 + 1e-5) ** -0.5
    even, odd = (part.weight.item() * scale for part in (module.even, module.odd))  # type: ignore
    expected = torch.stack((even * x[0, 0, ::2, ::2], odd * x[0, 0, 1::2, 1::2]))
    torch.testing.assert_close(module(x)[0], expected)


def test_the_average_of_a_pool_counts_no_padding() -> None:
    pool = block_module(Block("avg_pool", 1, 1, 3, 1, 1, 4))
    torch.testing.assert_close(pool(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 4, 4))


def test_relu_comes_before_the_convolution_and_the_stem_has_none() -> None:
    x = -torch.rand(1, 4, 6, 6)
    for op in ("sep_conv", "dil_conv", "conv_7x1_1x7", "relu_conv_bn", "factorized_reduce"):
        stride = 2 if op == "factorized_reduce" else 1
        kernel_size = 1 if stride == 2 or op == "relu_conv_bn" else 3
        module = block_module(Block(op, 4, 4, kernel_size, stride, 1, 6, "relu")).eval()
        assert not module(x).any(), op
    assert block_module(Block("conv_bn", 4, 4, 3, 1, 1, 6)).eval()(x).any()


def test_a_diamond_computes_its_formula() -> None:
    blocks = (
        Block("max_pool", 3, 3, 3, 1, 1, 4), Block("avg_pool", 3, 3, 3, 1, 1, 4),
        Block("add", 3, 3, 1, 1, 2, 4), Block("concat", 3, 9, 1, 1, 3, 4),
    )  # fmt: skip
    network = untrained(blocks, ((-1,), (-1,), (0, 1), (2, 0, -1)))
    x = torch.randn(2, 3, 4, 4)
    largest, mean = F.max_pool2d(x, 3, 1, 1), F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(network(x), torch.cat((largest + mean, largest, x), dim=1))


def test_a_chain_is_the_same_network_with_its_wiring_written_out() -> None:
    blocks = (
        Block("conv", 3, 8, 3, 2, 1, 8), Block("mbconv", 8, 8, 3, 1, 3, 4),
        Block("add", 8, 8, 1, 1, 2, 4), Block("logits", 8, 5, 1, 1, 1, 4),
    )  # fmt: skip
    chain, wired = untrained(blocks).eval(), untrained(blocks, chained(blocks)).eval()
    assert type(chain) is Network and type(wired) is WiredNetwork
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(chain(x), wired(x))
    wired.load_state_dict(chain.state_dict())


def test_an_untrained_network_of_cells_is_always_the_same() -> None:
    architecture = TINY.architecture(DARTS)
    before = torch.random.get_rng_state()
    first, other = (untrained(architecture.blocks, architecture.inputs) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(first.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_every_weight_of_a_published_network_gets_a_gradient() -> None:
    for name in ("DARTS_V2", "NASNet"):
        network = network_of(TINY, name)
        network(torch.randn(4, 3, 16, 16)).square().sum().backward()
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_dropped_paths_are_whole_images_and_the_rest_is_scaled() -> None:
    torch.manual_seed(0)
    dropped = drop_path(torch.ones(4000, 2, 3, 3), 0.25)
    per_image = dropped.flatten(1)
    assert bool(
        ((per_image == 0).all(1) | torch.isclose(per_image, torch.tensor(4 / 3)).all(1)).all()
    )
    # 4 standard errors of a mean of 4000 draws
    assert dropped.mean().item() == pytest.approx(1.0, abs=4 * (0.25 / 0.75 / 4000) ** 0.5)


def test_drop_path_drops_the_terms_of_sums_but_no_identity() -> None:
    nodes = ((Edge("max_pool_3x3", 0), Edge("skip_connect", 1)),)
    cells = CellGenotype(Cell(nodes, (2,)), Cell(nodes, (2,)))
    architecture = cell_space((3, 8, 8), 10, 4, 1).architecture(cells)
    network = WiredNetwork(architecture.blocks, architecture.inputs)
    # one cell is a reduction: its skip is a factorized reduction and may be dropped
    assert [architecture.blocks[place].op for place in sorted(network.branches)] == [
        "max_pool", "factorized_reduce",
    ]  # fmt: skip
    architecture = cell_space((3, 8, 8), 10, 4, 3).architecture(cells)
    network = WiredNetwork(architecture.blocks, architecture.inputs)
    ops = [architecture.blocks[place].op for place in sorted(network.branches)]
    assert ops.count("max_pool") == 3 and "identity" not in ops


def test_drop_path_keeps_the_shortcuts_of_tree_networks() -> None:
    space = tree_space("tree-small", (3, 32, 32), 10)
    architecture = space.architecture(space.random(Random(0)))
    network = WiredNetwork(architecture.blocks, architecture.inputs)
    sums = [
        sources
        for block, sources in zip(architecture.blocks, architecture.inputs, strict=True)
        if block.op == "add"
    ]
    residual = [sources for sources in sums if len(sources) == 2]
    assert residual and network.branches
    for shortcut, branch in residual:
        assert shortcut not in network.branches
        assert branch in network.branches
        assert architecture.blocks[branch].op == "bn_relu_conv_bn"


def test_drop_path_is_for_training_only() -> None:
    network = network_of(TINY).eval()
    x = torch.randn(2, 3, 16, 16)
    without = network(x)
    network.drop_path = 0.9
    assert torch.equal(network(x), without)
    network.train()
    torch.manual_seed(0)
    output = network(x)
    assert not torch.equal(network(x), output)


def test_the_auxiliary_head_has_the_published_count() -> None:
    assert params(AuxiliaryHead(576, 8, 10)) == 476_426
    with torch.device("meta"):
        with_head = WithAuxiliary(network_of(CIFAR), CIFAR.architecture(DARTS))
    assert params(with_head) == 3_349_342 + 476_426


@pytest.mark.parametrize("size", [6, 7, 8, 14])
def test_the_auxiliary_head_takes_any_size_of_at_least_6_px(size: int) -> None:
    head = AuxiliaryHead(4, size, 10).eval()
    assert head(torch.randn(2, 4, size, size)).shape == (2, 10)


def test_the_auxiliary_head_says_that_a_map_is_too_small() -> None:
    with pytest.raises(UsageError, match="at least 6 px, got 4 px"):
        WithAuxiliary(network_of(TINY), TINY.architecture(DARTS))
    chain = tiny_space()
    with pytest.raises(UsageError, match="needs a network of cells, got a chain of blocks"):
        WithAuxiliary(build(chain.architecture(chain.default)), chain.architecture(chain.default))


def test_auxiliary_logits_are_given_in_training_and_only_there() -> None:
    space = cell_space((3, 32, 32), 10, 4, 3)
    network = WithAuxiliary(network_of(space), space.architecture(DARTS))
    x = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(x)
    assert logits.shape == auxiliary.shape == (2, 10)
    network.eval()
    assert torch.equal(network(x), network.network(x))


def test_the_auxiliary_head_sees_the_output_of_the_second_reduction() -> None:
    space = cell_space((3, 32, 32), 10, 4, 5)
    network = WithAuxiliary(network_of(space), space.architecture(DARTS)).eval()
    (_, tapped) = network.network.outputs(torch.randn(1, 3, 32, 32), (network.place,))
    assert tapped.shape == (1, 4 * 16, 8, 8)


def test_an_architecture_read_from_json_builds_the_same_network() -> None:

    before = TINY.architecture(TINY.genotype(DARTS))
    after = msgspec.json.decode(msgspec.json.encode(before), type=Architecture)
    assert isinstance(after.genotype, Genotype)
    first, other = (untrained(a.blocks, a.inputs).eval() for a in (before, after))
    x = torch.randn(1, 3, 16, 16)
    assert torch.equal(first(x), other(x))


def test_a_narrow_reduction_trains_in_channels_last_as_in_any_layout() -> None:
    # PyTorch's own gradient writes beyond its memory here
    for channels in (2, 4, 6):
        op = FactorizedReduce(Block("factorized_reduce", channels, 8, 1, 2, 1, 6, "relu"))
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last):
            op.to(memory_format=layout)  # type: ignore[call-overload]
            torch.manual_seed(0)
            x = torch.randn(4, channels, 6, 6).to(memory_format=layout).requires_grad_()
            op.zero_grad()
            y = op(x)
            (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
            assert x.grad is not None and op.even.weight.grad is not None
            gradients.append((x.grad, op.even.weight.grad.clone()))
        torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)
