"""The average of the weights of a training is PyTorch's, and its buffers are the last ones."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hwnas.training.tuning.average import AveragedNetwork


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())


def step(network: nn.Module) -> None:
    """Change the weights and, by a forward pass, the statistics."""
    network(torch.randn(2, 3, 5, 5))
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight))


def test_it_is_the_moving_average_of_pytorch_by_the_same_names() -> None:
    network = small_network()
    ours = AveragedNetwork(network, 0.9)
    theirs = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    for _ in range(3):
        step(network)
        ours.update()
        theirs.update_parameters(network)
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in ours.state_dict().items())
    own, last = ours.module.state_dict(), network.state_dict()
    assert not torch.equal(own["0.weight"], last["0.weight"])
    assert torch.equal(own["1.running_mean"], last["1.running_mean"])


def test_it_goes_on_from_its_state() -> None:
    network = small_network()
    whole = AveragedNetwork(network, 0.9)
    step(network)
    whole.update()
    resumed = AveragedNetwork(network, 0.9)
    resumed.load_state_dict(deepcopy(whole.state_dict()))
    step(network)
    whole.update()
    resumed.update()
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in resumed.state_dict().items())


def test_a_network_gets_the_averaged_weights_and_keeps_its_statistics() -> None:
    network = small_network()
    averaged = AveragedNetwork(network, 0.9)
    for _ in range(2):
        step(network)
        averaged.update()
    before = deepcopy(network.state_dict())
    averaged.copy_to(network)
    after, mean = network.state_dict(), averaged.module.state_dict()
    assert torch.equal(after["0.weight"], mean["0.weight"])
    assert not torch.equal(after["0.weight"], before["0.weight"])
    assert torch.equal(after["1.running_mean"], before["1.running_mean"])
