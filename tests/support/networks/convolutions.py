"""Convolutions with batch norm as people write them, and a network around them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def unit(in_channels: int, out_channels: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def depthwise_unit(channels: int, size: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, size, stride, size // 2, groups=channels, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class Head(nn.Module):
    """A stem, ``middle``, global pool and a linear layer."""

    def __init__(self, *middle: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        )
        self.middle = nn.Sequential(*middle)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.middle(self.stem(x)).mean((2, 3)))


def conv(kernel_size: int = 3, dilation: int = 1, groups: int = 1, bias: bool = False) -> nn.Module:
    padding = dilation * (kernel_size // 2)
    return nn.Conv2d(8, 8, kernel_size, 1, padding, dilation, groups, bias)


class Function(nn.Module):
    """A function of a feature map; its layers are those of ``parts``."""

    def __init__(self, function: Callable[..., Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.parts)
