"""Networks by name, whose random weights depend on the name alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Shapes = Any
"""Shape of the input without the batch, a list of shapes, or a dict by the names of arguments."""
Factory = Callable[[], Any]
"""Makes a module or an ONNX model, with random numbers of PyTorch."""


class Networks(dict[str, tuple[Factory, Shapes]]):
    """A factory and input shapes for each name: of a module in evaluation mode with the statistics
    of a trained network, or of an ONNX model, which may state its shapes itself."""

    def add(self, name: str, shapes: Shapes = None) -> Callable[[Factory], Factory]:
        """Return a decorator for a class or function that makes the network ``name``."""

        def register(make: Factory) -> Factory:
            assert name not in self, name
            self[name] = (lambda: _seeded(name, make), shapes)
            return make

        return register

    def function(self, name: str, shapes: Shapes, compute: Callable[..., Any]) -> None:
        """Register a function of tensors as a network."""
        self.add(name, shapes)(lambda: Function(compute))


class Function(nn.Module):
    """A function of one tensor as a network."""

    def __init__(self, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.compute = compute

    def forward(self, x: Tensor) -> Any:
        return self.compute(x)


def _seeded(name: str, make: Factory) -> Any:
    torch.manual_seed(zlib.crc32(name.encode()))
    network = make()
    if not isinstance(network, nn.Module):
        return network
    for part in network.modules():
        if isinstance(getattr(part, "running_mean", None), Tensor):
            nn.init.normal_(part.running_mean, 0.0, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(part.running_var, 0.4, 2.0)  # type: ignore[arg-type]
    return network.eval()
