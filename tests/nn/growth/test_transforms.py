"""Transformations of trained networks compute what the network before them computed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.blocks.layers import ACTIVATIONS
from hwnas.nn.growth import chain
from hwnas.nn.growth.chain import activation_statistics, deeper, wider
from hwnas.nn.growth.dense import dense_deeper, dense_wider
from hwnas.nn.growth.mobile import insert_block, larger_kernel, wider_expansion
from hwnas.nn.growth.transforms import DEEPER_NOISE, WIDER_NOISE, Net, Remap, net_of
from hwnas.nn.network import Network

PLAIN = (
    Block("conv", 3, 6, 3, 1, 1, 13, "relu"),
    Block("max_pool", 6, 6, 2, 2, 1, 13),
    Block("conv", 6, 8, 3, 2, 1, 6, "relu"),
    Block("global_pool", 8, 8, 1, 1, 1, 3),
    Block("conv", 8, 10, 1, 1, 1, 1, "relu"),
    Block("logits", 10, 5, 1, 1, 1, 1),
)
DENSE = (
    Block("bare_conv", 3, 8, 3, 1, 1, 12),
    Block("dense_layer", 8, 12, 3, 1, 4, 12, "relu"),
    Block("dense_layer", 12, 17, 3, 1, 4, 12, "relu"),
    Block("transition", 17, 8, 2, 2, 1, 12, "relu"),
    Block("dense_layer", 8, 12, 3, 1, 4, 6, "relu"),
    Block("transition", 12, 6, 2, 2, 1, 6, "relu"),
    Block("dense_layer", 6, 10, 3, 1, 4, 3, "relu"),
    Block("norm_logits", 10, 5, 1, 1, 1, 3, "relu"),
)
MOBILE = (
    Block("conv", 3, 8, 3, 2, 1, 12),
    Block("mbconv", 8, 8, 3, 1, 3, 6, squeeze_excite=True),
    Block("identity", 8, 8, 1, 1, 1, 6),
    Block("mbconv", 8, 12, 3, 2, 2, 6, "hswish"),
    Block("fused_mbconv", 12, 12, 3, 1, 2, 3),
    Block("identity", 12, 12, 1, 1, 1, 3),
    Block("logits", 12, 5, 1, 1, 1, 3),
)
STARTS = {"plain": PLAIN, "dense": DENSE, "mobile": MOBILE}


def trained(blocks: tuple[Block, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Net:
    """A network with weights, gains, shifts and statistics as a training leaves them."""
    torch.manual_seed(seed)
    network = Network(blocks, norm_eps=1e-2)  # not the default: steps must carry it over
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net_of(blocks, network.to(dtype))


def images(blocks: tuple[Block, ...], seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    first, generator = blocks[0], torch.Generator().manual_seed(seed)
    shape = (16, *first.in_shape)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@torch.no_grad()
def outputs(net: Net, x: Tensor, train: bool = False) -> Tensor:
    return net.network().train(train)(x)


def step(net: Net, rng: Random, statistics: Tensor, generator: torch.Generator) -> Net:
    """One random step that is legal here."""
    options: list[Callable[[], Net]] = []
    for place, block in enumerate(net.blocks):
        more = block.out_channels + rng.randint(1, 5)
        if block.op == "conv" and net.blocks[0].activation == "relu":
            options.append(lambda p=place, m=more: wider(net, p, m, generator))
            kernel = rng.choice((1, 3, 5)) if block.out_size != 1 else 1
            options.append(lambda p=place, k=kernel: deeper(net, p, k, statistics))
        if block.op == "dense_layer":
            growth = block.growth + rng.randint(1, 4)
            options.append(lambda p=place, g=growth: dense_wider(net, p, g, generator))
            options.append(lambda p=place: dense_deeper(net, p, generator))
        if block.op in ("mbconv", "fused_mbconv"):
            ratio, kernel = block.expand_ratio + rng.choice((0.5, 1, 2)), block.kernel_size + 2
            options.append(lambda p=place, r=ratio: wider_expansion(net, p, r, generator))
            options.append(lambda p=place, k=kernel: larger_kernel(net, p, k))
        if block.op == "identity":
            new = msgspec.structs.replace(block, op="mbconv", kernel_size=5, expand_ratio=3)
            options.append(lambda p=place, b=new: insert_block(net, p, b, generator))
    return rng.choice(options)()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", STARTS)
def test_ten_random_steps_preserve_the_function(kind: str, seed: int) -> None:
    start = trained(STARTS[kind], seed=seed)
    statistics, unseen = images(start.blocks, 1), images(start.blocks, 2)
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    net = start
    for _ in range(10):
        net = step(net, rng, statistics, generator)
    assert sum(block.params for block in net.blocks) > sum(b.params for b in start.blocks)
    for x in (statistics, unseen):
        assert (outputs(net, x) - outputs(start, x)).abs().max() <= 1e-10
    trained_mode = outputs(net, statistics, True) - outputs(start, statistics, True)
    assert trained_mode.abs().max() <= 1e-10


@pytest.mark.parametrize("kind", STARTS)
def test_ten_random_steps_preserve_the_function_in_single_precision(kind: str) -> None:
    start = trained(STARTS[kind], torch.float32)
    statistics = images(start.blocks, 1, torch.float32)
    net, rng, generator = start, Random(1), torch.Generator().manual_seed(1)
    for _ in range(10):
        net = step(net, rng, statistics, generator)
    for train in (False, True):
        before, after = outputs(start, statistics, train), outputs(net, statistics, train)
        assert (after - before).abs().max() <= 1e-5 * before.abs().max()


@pytest.mark.parametrize("kind", STARTS)
def test_a_step_says_the_blocks_that_its_weights_fit_and_leaves_the_old_network(kind: str) -> None:
    start = trained(STARTS[kind])
    before = {name: value.clone() for name, value in start.weights.items()}
    grown = step(start, Random(0), images(start.blocks, 1), torch.Generator().manual_seed(0))
    assert sum(p.numel() for p in grown.network().parameters()) == sum(
        block.params for block in grown.blocks
    )
    assert all(torch.equal(value, start.weights[name]) for name, value in before.items())


def test_copies_share_what_their_consumer_takes() -> None:
    """The example of the reference: 3 and 4 channels, the 4 widened to 6."""
    taken = torch.tensor([0, 1, 2, 3, 1, 3]) + 3
    remap = Remap.of(torch.cat((torch.arange(3), taken)))
    assert remap.source.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 6]
    assert remap.share.tolist() == [1, 1, 1, 1, 0.5, 1, 0.5, 0.5, 0.5]


def test_the_shares_of_the_copies_of_a_channel_sum_to_one() -> None:
    remap = Remap.sample(5, 40, torch.Generator().manual_seed(3))
    sums = torch.zeros(5, dtype=torch.float64).index_add(0, remap.source, remap.share)
    torch.testing.assert_close(sums, torch.ones(5, dtype=torch.float64))


def test_after_tanh_an_identity_layer_changes_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ACTIVATIONS, "tanh", nn.Tanh)
    blocks = (Block("conv", 3, 6, 3, 1, 1, 8, "tanh"), Block("logits", 6, 5, 1, 1, 1, 8))
    net, x = trained(blocks), images(blocks, 1)
    with pytest.raises(UsageError, match="a layer added after tanh would change the function"):
        deeper(net, 0, 3, x)
    monkeypatch.setattr(chain, "IDEMPOTENT", {"tanh"})
    assert (outputs(deeper(net, 0, 3, x), x) - outputs(net, x)).abs().max() > 0.01


def test_after_hswish_no_layer_can_be_added() -> None:
    blocks = (Block("conv", 3, 6, 3, 1, 1, 8, "hswish"), Block("logits", 6, 5, 1, 1, 1, 8))
    with pytest.raises(UsageError, match="hswish"):
        deeper(trained(blocks), 0, 3, images(blocks, 1))


def test_a_norm_without_measured_statistics_is_an_identity_in_evaluation_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, x = trained(PLAIN), images(PLAIN, 1)

    def without_data(net: Net, place: int, images: Tensor) -> tuple[Tensor, Tensor]:
        mean, var = activation_statistics(net, place, images)
        return torch.zeros_like(mean), torch.ones_like(var)

    monkeypatch.setattr(chain, "activation_statistics", without_data)
    grown = deeper(net, 0, 3, x)
    assert (outputs(grown, x) - outputs(net, x)).abs().max() <= 1e-10
    assert (outputs(grown, x, True) - outputs(net, x, True)).abs().max() > 0.01


def test_noise_changes_the_function_a_little() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, dense, mobile = trained(PLAIN), trained(DENSE), trained(MOBILE)
    x = images(PLAIN, 1)
    for start, net in (
        (plain, wider(plain, 0, 12, generator, WIDER_NOISE)),
        (plain, deeper(plain, 0, 3, x, generator, DEEPER_NOISE)),
        (dense, dense_wider(dense, 1, 9, generator, WIDER_NOISE)),
        (dense, dense_deeper(dense, 1, generator, DEEPER_NOISE)),
        (mobile, wider_expansion(mobile, 1, 6, generator, WIDER_NOISE)),
    ):
        x = images(start.blocks, 1)
        before, after = outputs(start, x), outputs(net, x)
        assert 0 < (after - before).abs().max() < 0.1 * before.abs().max()


def test_transitions_go_on_to_halve_their_channels() -> None:
    net, generator = trained(DENSE), torch.Generator().manual_seed(0)
    for place in (1, 2, 4):
        net = dense_wider(net, place, 12, generator)
    net = dense_deeper(net, 2, generator)
    transitions = [block for block in net.blocks if block.op == "transition"]
    assert [block.in_channels for block in transitions] == [44, 34]
    assert [block.out_channels for block in transitions] == [22, 17]


def test_illegal_steps_are_rejected_in_one_line() -> None:
    generator = torch.Generator().manual_seed(0)
    plain, mobile = trained(PLAIN), trained(MOBILE)
    fused = msgspec.structs.replace(MOBILE[2], op="fused_mbconv", kernel_size=3)
    for attempt, message in (
        (lambda: wider(plain, 0, 6, generator), "6 is not larger"),
        (lambda: wider(plain, 1, 9, generator), "expected conv for this step"),
        (lambda: wider(plain, 9, 9, generator), "block 9 does not exist"),
        (lambda: deeper(plain, 4, 3, images(PLAIN, 1)), "at 1 px"),
        (lambda: deeper(plain, 0, 2, images(PLAIN, 1)), "expected an odd size"),
        (lambda: dense_deeper(plain, 0, generator), "expected dense_layer for this step"),
        (lambda: larger_kernel(mobile, 1, 3), "3 is not larger"),
        (lambda: insert_block(mobile, 2, fused, torch.Generator()), "ends in an activation"),
        (lambda: insert_block(mobile, 2, MOBILE[3], torch.Generator()), "cannot replace block 2"),
    ):
        with pytest.raises(UsageError, match=message) as refused:
            attempt()
        assert "\n" not in str(refused.value)
