"""Images that are not square: every space makes networks of them, counted and named right."""

from __future__ import annotations

from random import Random

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.block import Block
from hwnas.architecture.size import area, axes, size_of, size_text, strided
from hwnas.errors import UsageError
from hwnas.nn.build import untrained
from hwnas.nn.resized import resized
from hwnas.spaces.elastic.space import elastic_space
from hwnas.spaces.find import find_space
from hwnas.training.tuning.sizes import small_size

SPACES = ("mobile", "chain", "densenet", "cells", "tree")


def counted_macs(architecture: Architecture) -> int:
    """Count the MACs of the convolutions and linear layers in a forward pass."""
    network = untrained(architecture.blocks, architecture.inputs).eval()
    total = 0

    def count(layer: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        total += output[0, 0].numel() * weight.numel()

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    with torch.no_grad():
        output = network(torch.randn(1, *architecture.input_shape))
    assert output.shape == (1, architecture.num_classes)
    return total


@pytest.mark.parametrize("shape", [(3, 40, 24), (1, 24, 40)])
@pytest.mark.parametrize("name", SPACES)
def test_networks_of_every_space_have_the_macs_and_shapes_of_their_blocks(
    name: str, shape: tuple[int, int, int]
) -> None:
    space = find_space(name, shape, 5)
    network = space.architecture(space.random(Random(0)))
    assert network.input_shape == shape
    assert sum(block.macs for block in network.blocks) == pytest.approx(
        counted_macs(network), rel=0.01
    )
    for block in network.blocks:
        assert Block.from_key(block.key) == block
        assert msgspec.json.decode(msgspec.json.encode(block), type=Block) == block


def test_height_and_width_are_exchanged_with_the_image() -> None:
    tall, wide = (find_space("mobile", shape, 5) for shape in ((3, 40, 24), (3, 24, 40)))
    for first, second in zip(
        tall.architecture(tall.default).blocks, wide.architecture(wide.default).blocks, strict=True
    ):
        assert axes(first.in_size) == axes(second.in_size)[::-1]
        assert first.macs == second.macs and first.params == second.params


def test_a_size_is_a_number_only_for_squares() -> None:
    assert size_of(7, 7) == 7 and size_of(7, 5) == (7, 5)
    assert axes(7) == (7, 7) and area((7, 5)) == 35 and size_text((7, 5)) == "7x5"
    assert strided((7, 5), 2) == (4, 3) and strided((2, 1), 2) == 1
    square = Block("conv", 3, 8, 3, 2, 1, (40, 40))
    assert square == Block("conv", 3, 8, 3, 2, 1, 40) and square.key.endswith("@40")
    assert Block("conv", 3, 8, 3, 2, 1, (40, 24)).key == "conv k3 s2 e1 3>8 @40x24"


def test_images_too_narrow_for_a_space_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 16 px, got 40x12 px"):
        find_space("mobile", (3, 40, 12), 5)


def test_elastic_resolutions_keep_the_shape_of_the_images() -> None:
    original = find_space("mobile", (3, 160, 96), 5)
    space = elastic_space("net", original.architecture(original.default))
    assert space.sizes[0] == (160, 96) and len(space.sizes) > 2
    for size, network in zip(space.sizes, space.originals, strict=True):
        height, width = axes(size)
        assert width / height == pytest.approx(0.6, abs=0.12)
        assert network.input_shape == (3, height, width)


def test_images_are_resized_along_each_axis() -> None:
    images = torch.zeros(2, 3, 160, 96)
    small = size_of(*map(small_size, images.shape[-2:]))
    assert small == (112, 64)
    assert resized(images, small).shape == (2, 3, 112, 64)
