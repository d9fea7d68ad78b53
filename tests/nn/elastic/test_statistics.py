"""Statistics of a network's inner channels, beside those of all its pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.nn.network import Network
from tests.support.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 16),
    Block("mbconv", 8, 8, 5, 1, 1, 8),
    Block("mbconv", 8, 12, 5, 2, 3, 8, squeeze_excite=True),
    Block("fused_mbconv", 12, 12, 3, 1, 2, 4),
    Block("fused_mbconv", 12, 12, 3, 1, 1, 4),
    Block("logits", 12, 5, 1, 1, 1, 4),
)
SE = 2


def inputs_of(network: Network, place: int, layer: str, images: Tensor) -> Tensor:
    """Return what the layer is given, as pixels ``[C, n]``."""
    x = network.blocks[:place](images)
    for name, module in network.blocks[place].get_submodule("layers").named_children():
        if name == layer:
            break
        x = module(x)
    return x.transpose(0, 1).flatten(1)


def test_covariances_of_all_pixels_are_those_of_the_inputs_of_the_projections() -> None:
    network, images = trained_network(BLOCKS), smooth_images(12, 16)
    places = elastic_places(network)
    assert places == (1, 2, 3)
    statistics = collect(network, images.split(5), places, pixels=10**6)
    for place in places:
        pixels = inputs_of(network, place, "project", images)
        torch.testing.assert_close(statistics[place].mean, pixels.mean(1))
        torch.testing.assert_close(statistics[place].covariance, torch.cov(pixels, correction=0))


def test_the_squeeze_excite_and_the_kernels_have_statistics() -> None:
    network, images = trained_network(BLOCKS), smooth_images(10, 16)
    statistics = collect(network, images.split(5), (1, SE, 3), kernel_pixels=10**6)
    gates = inputs_of(network, SE, "se", images)
    torch.testing.assert_close(statistics[SE].squeeze_mean, gates.mean(1))
    squeeze = network.get_submodule(f"blocks.{SE}.layers.se.squeeze")
    pooled = gates.view(24, 10, -1).mean(2).T[:, :, None, None]
    hidden = squeeze(pooled).relu().mean((0, 2, 3))
    torch.testing.assert_close(statistics[SE].excite_mean, hidden)
    gram = statistics[SE].gram
    assert gram is not None and gram.shape == (24, 26, 26)
    centre = inputs_of(network, SE, "depthwise", images).view(24, 10, 8, 8)[:, :, ::2, ::2]
    torch.testing.assert_close(gram[:, 12, 12], centre.square().mean((1, 2, 3)))
    assert statistics[3].gram is None and statistics[3].squeeze_mean is None


def test_a_sample_is_repeatable_and_near_the_whole() -> None:
    network, images = trained_network(BLOCKS), smooth_images(40, 16)
    whole = collect(network, images.split(10), (SE,), pixels=10**6)[SE]
    samples = [collect(network, images.split(10), (SE,), pixels=80, seed=s)[SE] for s in (0, 0, 1)]
    assert torch.equal(samples[0].covariance, samples[1].covariance)
    assert not torch.equal(samples[0].covariance, samples[2].covariance)
    error = (samples[0].covariance - whole.covariance).norm() / whole.covariance.norm()
    assert error < 0.3


def test_collecting_leaves_the_network_as_it_was() -> None:
    network, images = trained_network(BLOCKS).train(), smooth_images(4, 16)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    collect(network, [images], elastic_places(network))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(module._forward_pre_hooks for module in network.modules())
