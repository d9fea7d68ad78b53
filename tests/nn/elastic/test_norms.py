"""Batch norm statistics between those of the training and those of new images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.norms import reestimate
from hwnas.nn.network import Network
from hwnas.training.evaluation import recalibrate
from hwnas.training.images.loader import Data

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 16),
    Block("mbconv", 8, 8, 3, 1, 2, 8),
    Block("logits", 8, 4, 1, 1, 1, 8),
)


def network() -> Network:
    torch.manual_seed(0)
    built = Network(BLOCKS)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features)
            module.running_var = torch.rand(module.num_features) + 0.5
    return built.eval()


def images(count: int) -> Tensor:
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def statistics(network: Network) -> dict[str, Tensor]:
    return {name: value for name, value in network.named_buffers() if "running" in name}


def test_weight_0_keeps_all_statistics_to_the_bit() -> None:
    built, old = network(), statistics(network())
    reestimate(built, [images(8)], weight=0)
    assert all(torch.equal(value, old[name]) for name, value in statistics(built).items())
    assert not built.training


def test_weight_1_is_the_recalibration_of_a_training() -> None:
    pixels = torch.randint(256, (200, 3, 16, 16), dtype=torch.uint8)
    zeros, ones = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    data = Data(pixels, torch.zeros(200, dtype=torch.int64), zeros, ones)
    built, other = network(), network()
    recalibrate(built, data)
    reestimate(other, data.normalise(pixels).split(128))
    new = statistics(other)
    assert all(torch.equal(value, new[name]) for name, value in statistics(built).items())


def test_a_weight_between_mixes_old_and_new() -> None:
    built, whole = network(), network()
    reestimate(built, [images(8)], weight=0.25)
    reestimate(whole, [images(8)])
    old, new = statistics(network()), statistics(whole)
    for name, value in statistics(built).items():
        torch.testing.assert_close(value, 0.75 * old[name] + 0.25 * new[name])


def test_batches_count_alike_and_momenta_stay() -> None:
    built = network()
    norm = built.get_submodule("blocks.0.norm")
    assert isinstance(norm, nn.BatchNorm2d)
    norm.momentum = 0.01
    batches = [images(8), images(8) + 1.0]
    reestimate(built, batches)
    with torch.no_grad():
        maps = [built.get_submodule("blocks.0.conv")(batch) for batch in batches]
    expected = torch.stack([features.mean((0, 2, 3)) for features in maps]).mean(0)
    torch.testing.assert_close(norm.running_mean, expected)
    assert norm.momentum == 0.01
