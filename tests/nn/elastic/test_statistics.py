"""Statistics of a network's inner channels, beside those of all its pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.network import Network
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 16),
    Block("mbconv", 8, 8, 5, 1, 1, 8),
    Block("mbconv", 8, 12, 5, 2, 3, 8, squeeze_excite=True),
    Block("fused_mbconv", 12, 12, 3, 1, 2, 4),
    Block("fused_mbconv", 12, 12, 3, 1, 1, 4),
    Block("basic", 12, 12, 3, 1, 1, 4, activation="relu"),
    Block("bottleneck", 12, 16, 3, 1, 0.5, 4, activation="relu"),
    Block("logits", 16, 5, 1, 1, 1, 4),
)
SE = 2
CONSUMERS = {1: "project", 2: "project", 3: "project", 5: "last", 6: "restore"}


def inputs_of(network: Network, place: int, layer: str, images: Tensor) -> Tensor:
    """Return what the layer is given, as pixels ``[C, n]``."""
    x = network.blocks[:place](images)
    for name, module in network.blocks[place].get_submodule("layers").named_children():
        if name == layer:
            break
        x = module(x)
    return x.transpose(0, 1).flatten(1)


def test_covariances_of_all_pixels_are_those_of_the_inputs_of_the_layers() -> None:
    network, images = trained_network(BLOCKS), smooth_images(12, 16)
    places = elastic_places(network)
    assert places == (1, 2, 3, 5, 6)
    statistics = collect(network, images.split(5), places, pixels=10**6)
    for place, layer in (*CONSUMERS.items(), (6, "spatial")):
        pixels = inputs_of(network, place, layer, images)
        mean, covariance = statistics[place].inputs[layer]
        torch.testing.assert_close(mean, pixels.mean(1))
        torch.testing.assert_close(covariance, torch.cov(pixels, correction=0))


def test_the_squeeze_excite_and_the_kernels_have_statistics() -> None:
    network, images = trained_network(BLOCKS), smooth_images(10, 16)
    statistics = collect(network, images.split(5), (1, SE, 3), kernel_pixels=10**6)
    gates = inputs_of(network, SE, "se", images)
    torch.testing.assert_close(statistics[SE].squeeze_mean, gates.mean(1))
    squeeze = network.get_submodule(f"blocks.{SE}.layers.se.squeeze")
    pooled = gates.view(24, 10, -1).mean(2).T[:, :, None, None]
    hidden = squeeze(pooled).relu().mean((0, 2, 3))
    torch.testing.assert_close(statistics[SE].excite_mean, hidden)
    gram = statistics[SE].grams["depthwise"]
    assert gram is not None and gram.shape == (24, 26, 26)
    centre = inputs_of(network, SE, "depthwise", images).view(24, 10, 8, 8)[:, :, ::2, ::2]
    torch.testing.assert_close(gram[:, 12, 12], centre.square().mean((1, 2, 3)))
    assert not statistics[3].grams and statistics[3].squeeze_mean is None


def test_a_sample_is_repeatable_and_near_the_whole() -> None:
    network, images = trained_network(BLOCKS), smooth_images(40, 16)

    def covariance(pixels: int, seed: int = 0) -> Tensor:
        statistics = collect(network, images.split(10), (SE,), pixels, seed=seed)
        return statistics[SE].inputs["project"].covariance

    whole, sample = covariance(10**6), covariance(80)
    assert torch.equal(sample, covariance(80))
    assert not torch.equal(sample, covariance(80, seed=1))
    assert (sample - whole).norm() < 0.3 * whole.norm()


def test_collecting_leaves_the_network_as_it_was() -> None:
    network, images = trained_network(BLOCKS).train(), smooth_images(4, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collect(network, [images], elastic_places(network))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
