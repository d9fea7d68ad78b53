"""Chains of MBConv as networks that are grown: layers, steps, the function they keep."""

from __future__ import annotations

from random import Random

import pytest
import torch

from hwnas.architecture.architecture import Block, Genotype
from hwnas.errors import UsageError
from hwnas.nn.growth.apply import grown_net
from hwnas.nn.growth.shrink import narrower_expansion, skip_block
from hwnas.nn.growth.transforms import Net
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.find import find_space
from hwnas.spaces.grown.mobile import GrownMobile, growable
from hwnas.spaces.grown.space import Layer, Layers, Place
from hwnas.spaces.grown.steps import (
    Step,
    apply_step,
    deeper_steps,
    larger_step,
    sentence,
    smaller_steps,
    wider_step,
)
from hwnas.spaces.mobile.space import FUSED, Candidate, MobileSpace, Stage, mobile_space
from tests.nn.growth.test_transforms import trained as trained_blocks

SIZE = 12


def small(*candidates: Candidate, activation: str = "relu6", gated: bool = False) -> MobileSpace:
    """Three stages of at most 2, 3 and 3 blocks; the second always has two."""
    mbconvs = tuple(
        Candidate("mbconv", kernel, ratio, activation, gated)
        for kernel in (3, 5, 7)
        for ratio in (2, 3, 6)
    )
    return MobileSpace(
        name="small",
        input_shape=(2, SIZE, SIZE),
        num_classes=5,
        stem=(Block("conv", 2, 8, 3, 2, 1, SIZE),),
        stages=(Stage(8, 2, 1), Stage(12, 3, 2, least_depth=2), Stage(12, 3, 1)),
        candidates=candidates or (*mbconvs, *FUSED),
        head_width=16,
    )


SPACES = {
    "relu6": GrownMobile(small()),
    "hswish, squeeze-excite": GrownMobile(small(activation="hswish", gated=True)),
}


def trained(space: GrownMobile, layers: Layers) -> Net:
    return trained_blocks(space.architecture(space.genotype(layers)).blocks)


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((16, 2, SIZE, SIZE), generator=generator, dtype=torch.float64)


@torch.no_grad()
def outputs(net: Net, x: torch.Tensor, train: bool = False) -> torch.Tensor:
    return net.network().train(train)(x)


def growth_steps(space: GrownMobile, layers: Layers) -> list[Step]:
    places = [Place(n, m) for n, row in enumerate(layers) for m in range(len(row))]
    steps = [step for at in places for step in deeper_steps(space, layers, at)]
    steps += [step for at in places if (step := wider_step(space, layers, at))]
    return steps + [step for at in places if (step := larger_step(space, layers, at))]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", SPACES)
def test_ten_random_steps_give_the_blocks_of_the_space_and_the_same_function(
    name: str, train: bool
) -> None:
    space = SPACES[name]
    start = space.layers(space.start)
    net, generator = trained(space, start), torch.Generator().manual_seed(1)
    kinds: set[str] = set()
    for seed in range(3):
        layers, grown, rng = start, net, Random(seed)
        for _ in range(10):
            step = rng.choice(growth_steps(space, layers))
            grown = grown_net(space, layers, grown, [step], images(1), generator, noise=0.0)
            layers = apply_step(space, layers, step)
            kinds.add(step.kind)
        assert grown.blocks == space.architecture(space.genotype(layers)).blocks
        for x in (images(1), images(2)):
            change = outputs(grown, x, train) - outputs(net, x, train)
            assert change.abs().max() <= 1e-10
    assert kinds == {"wider", "larger", "deeper"}


def test_an_added_block_has_weights_by_the_seed_and_learns() -> None:
    space = SPACES["relu6"]
    layers = space.layers(space.start)
    net, step = trained(space, layers), Step("deeper", 1, 0, 5)

    def grown(seed: int) -> Net:
        generator = torch.Generator().manual_seed(seed)
        return grown_net(space, layers, net, [step], images(1), generator)

    name = "blocks.4.layers.depthwise.conv.weight"
    block = grown(0).blocks[4]
    assert (block.op, block.kernel_size, block.expand_ratio, block.residual) == (
        "mbconv", 5, 2, True,
    )  # fmt: skip
    assert torch.equal(grown(0).weights[name], grown(0).weights[name])
    assert not torch.equal(grown(0).weights[name], grown(1).weights[name])
    network = grown(0).network().train()
    network(images(1)).square().sum().backward()
    gain = network.get_parameter("blocks.4.layers.project.norm.weight")
    assert gain.grad is not None and gain.grad.abs().max() > 0


@pytest.mark.parametrize("name", SPACES)
def test_taking_away_gives_the_blocks_of_the_space_and_ends_at_its_smallest(name: str) -> None:
    space = SPACES[name]
    layers = tuple(stage.options[-1:] * stage.depth for stage in space.stages)
    net, rng, generator = trained(space, layers), Random(0), torch.Generator()
    while options := list(smaller_steps(space, layers)):
        step = rng.choice(options)
        net = grown_net(space, layers, net, [step], images(1), generator)
        layers = apply_step(space, layers, step)
        assert net.blocks == space.architecture(space.genotype(layers)).blocks
    assert outputs(net, images(2)).isfinite().all()
    smallest = [[(layer.width, layer.kernel_size) for layer in row] for row in layers]
    assert smallest == [[(2, 7)], [(2, 7)] * 2, [(2, 7)]]  # kernels stay


@pytest.mark.parametrize("name", SPACES)
def test_inner_channels_that_nothing_takes_can_be_taken_away(name: str) -> None:
    space = SPACES[name]
    layers = tuple(stage.options[-1:] * stage.depth for stage in space.stages)
    net = trained(space, layers)
    own, half = "blocks.2.layers", net.blocks[2].mid_channels // 2
    weights = {key: value.clone() for key, value in net.weights.items()}
    weights[f"{own}.project.conv.weight"][:, half:] = 0
    if net.blocks[2].squeeze_excite:
        gates = net.blocks[2].se_channels // 2
        weights[f"{own}.se.squeeze.weight"][:, half:] = 0
        weights[f"{own}.se.excite.weight"][:, gates:] = 0
    before = Net(net.blocks, weights)
    after = narrower_expansion(before, 2, 3)
    assert after.blocks[2].expand_ratio == 3
    torch.testing.assert_close(outputs(after, images(2)), outputs(before, images(2)))


def test_a_block_that_adds_nothing_can_be_left_out() -> None:
    space = SPACES["relu6"]
    layers = tuple(stage.options[-1:] * stage.depth for stage in space.stages)
    net = trained(space, layers)
    weights = {key: value.clone() for key, value in net.weights.items()}
    for part in ("weight", "bias"):
        weights[f"blocks.4.layers.project.norm.{part}"].zero_()
    before = Net(net.blocks, weights)
    after = skip_block(before, 4, 5)
    assert [block.op for block in after.blocks[3:6]] == ["mbconv", "mbconv", "identity"]
    torch.testing.assert_close(outputs(after, images(2)), outputs(before, images(2)))
    with pytest.raises(UsageError, match="has no shortcut, so it cannot be removed"):
        skip_block(before, 3, 5)
    with pytest.raises(UsageError, match="expands 6 times: 6 is not smaller"):
        narrower_expansion(before, 3, 6)


def test_layers_and_choices_are_the_same_network() -> None:
    for space in SPACES.values():
        rng = Random(0)
        for _ in range(20):
            layers = tuple(
                tuple(
                    rng.choice(stage.options)
                    for _ in range(rng.randint(stage.min_depth, stage.depth))
                )
                for stage in space.stages
            )
            genotype = space.genotype(layers)
            assert space.layers(genotype) == layers
            laid_out = space.placed_blocks(layers)
            assert tuple(block for block, _ in laid_out) == space.architecture(genotype).blocks
            for block, at in laid_out:
                if at is not None:
                    layer = layers[at.stage][at.layer]
                    assert (block.expand_ratio, block.kernel_size) == (
                        layer.width, layer.kernel_size,
                    )  # fmt: skip


def test_the_start_is_the_smallest_and_has_the_blocks_that_cannot_be_skipped() -> None:
    space = SPACES["relu6"]
    assert [len(stage.start) for stage in space.stages] == [1, 2, 1]
    assert {layer for stage in space.stages for layer in stage.start} == {Layer(2, 3)}
    words = [word for word, _ in sentence(space, space.layers(space.start))]
    assert words == ["mb-2-3"] * 4
    paper = growable(mobile_space((3, 224, 224), 1000))
    assert [len(stage.start) for stage in paper.stages] == [1] * 6
    ofa = growable(find_space("ofa", (3, 128, 128), 1000))
    assert [(stage.min_depth, stage.depth) for stage in ofa.stages] == [(2, 4)] * 5
    assert [stage.widths for stage in ofa.stages] == [(3, 4, 6)] * 5


def test_what_is_not_grown_is_told() -> None:
    space = SPACES["relu6"]
    fused = small().options[0].index(FUSED[0])
    start = space.start.choices
    with pytest.raises(UsageError, match="stage 1 block 1 of small: fused k3 e1 can't grow"):
        space.layers(Genotype("small", (fused, *start[1:])))
    with pytest.raises(UsageError, match="stage 2 has 2 to 3 blocks in small, got 1"):
        space.genotype(((Layer(2, 3),),) * 3)
    with pytest.raises(UsageError, match="stage 1 of small has no expansion 4 with kernel 3"):
        space.genotype(((Layer(4, 3),), (Layer(2, 3),) * 2, (Layer(2, 3),)))
    for candidates in (FUSED, (Candidate("mbconv", 3, 3), Candidate("mbconv", 5, 6))):
        with pytest.raises(UsageError, match="'small' doesn't have every kernel size with"):
            growable(small(*candidates))
    with pytest.raises(UsageError, match=r"the space 'cells' doesn't support; .* mobile"):
        growable(cell_space((1, 16, 16), 3))
