"""Networks of torchvision with random weights and statistics, and small ones of the same blocks."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.mobilenetv2 import MobileNetV2


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every batch norm random weights and statistics; return the network in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network.eval()


def torchvision_network(name: str, num_classes: int = 1000) -> nn.Module:
    """Return a network of torchvision with random weights and statistics."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(get_model(name, weights=None, num_classes=num_classes))


def small_mobilenet(num_classes: int = 4) -> nn.Module:
    """Return a MobileNetV2 of four blocks: e1, e6 s2, e6 with a shortcut."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        setting = [[1, 8, 1, 1], [6, 16, 2, 2]]
        return randomise(
            MobileNetV2(num_classes, width_mult=1.0, inverted_residual_setting=setting)
        )


def noise(shape: tuple[int, int, int], count: int = 2) -> torch.Tensor:
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(1))
