"""Steps of a space done to trained networks: its blocks come out, and growth preserves."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from hwnas.errors import UsageError
from hwnas.nn.build import build
from hwnas.nn.growth.apply import grown_net
from hwnas.nn.growth.shrink import narrower, shallower
from hwnas.nn.growth.transforms import Net, net_of, strongest
from hwnas.spaces.grown.chain import chain
from hwnas.spaces.grown.densenet import densenet
from hwnas.spaces.grown.space import GrownSpace, Layers, Place
from hwnas.spaces.grown.steps import Step, apply_step, deeper_steps, smaller_steps, wider_step

SPACES = {"chain": chain((2, 16, 16), 5), "densenet": densenet((2, 16, 16), 5)}


def trained(space: GrownSpace, layers: Layers) -> Net:
    """Weights, gains and statistics as a training leaves them, in double precision."""
    torch.manual_seed(0)
    network = build(space.architecture(space.genotype(layers))).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    return net_of(space.blocks(layers), network)


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((16, 2, 16, 16), generator=generator, dtype=torch.float64)


@torch.no_grad()
def outputs(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.network().eval()(x)


def drawn_steps(space: GrownSpace, layers: Layers, count: int, rng: Random) -> list[Step]:
    steps: list[Step] = []
    for _ in range(count):
        places = [Place(n, m) for n, row in enumerate(layers) for m in range(len(row))]
        options = [step for place in places for step in deeper_steps(space, layers, place)]
        options += [step for place in places if (step := wider_step(space, layers, place))]
        steps.append(rng.choice(options))
        layers = apply_step(space, layers, steps[-1])
    return steps


@pytest.mark.parametrize("name", SPACES)
def test_growth_gives_the_blocks_of_the_space_and_the_same_function(name: str) -> None:
    space = SPACES[name]
    start = space.layers(space.start)
    net, generator = trained(space, start), torch.Generator().manual_seed(1)
    for seed in range(3):
        steps, layers = drawn_steps(space, start, 8, Random(seed)), start
        grown = grown_net(space, start, net, steps, images(1), generator, noise=0.0)
        for step in steps:
            layers = apply_step(space, layers, step)
        assert grown.blocks == space.blocks(layers)
        for x in (images(1), images(2)):
            torch.testing.assert_close(outputs(grown, x), outputs(net, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SPACES)
def test_noise_breaks_the_symmetry_a_little(name: str) -> None:
    space = SPACES[name]
    start = space.layers(space.start)
    net, steps = trained(space, start), drawn_steps(space, start, 4, Random(0))
    generator = torch.Generator().manual_seed(1)
    grown = grown_net(space, start, net, steps, images(1), generator)
    change = (outputs(grown, images(2)) - outputs(net, images(2))).abs().max().item()
    assert 0 < change < 0.1 * outputs(net, images(2)).abs().max().item()


@pytest.mark.parametrize("name", SPACES)
def test_taking_away_gives_the_blocks_of_the_space(name: str) -> None:
    space = SPACES[name]
    layers = space.layers(space.default)
    net, rng, generator = trained(space, layers), Random(0), torch.Generator()
    for _ in range(12):
        step = rng.choice(list(smaller_steps(space, layers)))
        net = grown_net(space, layers, net, [step], images(1), generator)
        layers = apply_step(space, layers, step)
        assert net.blocks == space.blocks(layers)
        assert outputs(net, images(2)).isfinite().all()


def test_filters_without_weight_and_effect_can_be_taken_away() -> None:
    """Half the filters are zero, and nothing takes them: without them all is the same."""
    space = SPACES["chain"]
    net = trained(space, space.layers(space.default))
    width = net.blocks[0].out_channels
    weights = {key: value.clone() for key, value in net.weights.items()}
    weights["blocks.0.conv.weight"][width // 2 :] = 0
    weights["blocks.1.conv.weight"][:, width // 2 :] = 0
    before = Net(net.blocks, weights)
    after = narrower(before, 0, width // 2)
    torch.testing.assert_close(outputs(after, images(2)), outputs(before, images(2)))


def test_a_dense_layer_whose_features_nobody_takes_can_be_left_out() -> None:
    space = SPACES["densenet"]
    layers = space.layers(space.default)
    net = trained(space, layers)
    place = max(n for n, block in enumerate(net.blocks) if block.op == "dense_layer")
    block = net.blocks[place]
    weights = {key: value.clone() for key, value in net.weights.items()}
    weights[f"blocks.{place + 1}.logits.linear.weight"][:, block.in_channels :] = 0
    before = Net(net.blocks, weights)
    after = shallower(before, place)
    assert len(after.blocks) == len(net.blocks) - 1
    torch.testing.assert_close(outputs(after, images(2)), outputs(before, images(2)))
    # of half the features likewise: their filters are the weakest
    weights = {key: value.clone() for key, value in net.weights.items()}
    weights[f"blocks.{place}.grow.conv.weight"][block.growth // 2 :] = 0
    weights[f"blocks.{place + 1}.logits.linear.weight"][
        :, block.in_channels + block.growth // 2 :
    ] = 0
    weights[f"blocks.{place}.bottleneck.conv.weight"][block.mid_channels // 2 :] *= 1e-3
    weights[f"blocks.{place}.grow.conv.weight"][:, block.mid_channels // 2 :] = 0
    before = Net(net.blocks, weights)
    after = narrower(before, place, block.growth // 2)
    torch.testing.assert_close(outputs(after, images(2)), outputs(before, images(2)))


def test_the_strongest_filters_are_those_of_the_greatest_norm_in_their_order() -> None:
    kernel = torch.tensor([[1.0, -1.0], [0.0, 0.5], [3.0, 0.0], [-2.0, -2.0]])
    assert strongest(kernel, 2).tolist() == [2, 3]
    assert strongest(kernel, 3).tolist() == [0, 2, 3]


def test_shrinking_rejects_an_equal_width_and_a_strided_layer() -> None:
    space = SPACES["chain"]
    net = trained(space, space.layers(space.start))
    with pytest.raises(UsageError, match="has a width of 4: 4 is not smaller"):
        narrower(net, 0, 4)
    wide = Net(tuple(net.blocks), net.weights)
    block = wide.blocks[0].__class__("conv", 2, 4, 3, 2, 1, 16, "relu")
    with pytest.raises(UsageError, match="has a stride, so it cannot be removed"):
        shallower(Net((block, *wide.blocks[1:]), wide.weights), 0)
