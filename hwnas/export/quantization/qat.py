"""Quantisation-aware fine-tuning: training with every value rounded as in the int8 file.

Fake quantisation with straight-through gradients (Jacob et al., CVPR 2018, arXiv:1712.05877).
Weights are rounded symmetrically per output channel, before the batch norm is folded: folding
multiplies a channel and its quantisation step by the same constant, so the grid is the file's.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from hwnas.export.graph.tracer import is_layer

RANGE_MOMENTUM = 0.05
"""Momentum of the ranges of activations over the batches."""

MAX_LEVEL = 255
_WEIGHTS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm2d,)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid)


class FakeActivation(nn.Module):
    """Rounds a value to 256 levels of the range observed in training."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, value: Tensor) -> Tensor:
        if self.training:
            low, high = value.detach().aminmax()
            # the first batch sets the range; not an `if`, which would wait for a GPU
            share = torch.where(self.low == self.high, 1.0, RANGE_MOMENTUM)
            self.low.lerp_(low.clamp(max=0), share)
            self.high.lerp_(high.clamp(min=0), share)
        scale = (self.high - self.low).clamp(min=1e-8) / MAX_LEVEL
        zero = (-self.low / scale).round().clamp(0, MAX_LEVEL)
        return torch.fake_quantize_per_tensor_affine(value, scale, zero.int(), 0, MAX_LEVEL)


class FakeWeight(nn.Module):
    """Rounds weights ``[O, ...]`` to ``bits`` signed bits, with a step per output channel."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.limit = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / self.limit
        zeros = torch.zeros(len(weight), dtype=torch.int32, device=weight.device)
        return torch.fake_quantize_per_channel_affine(
            weight, scale, zeros, 0, -self.limit, self.limit
        )


@contextmanager
def quantisation_aware(network: nn.Module, weight_bits: int = 8) -> Iterator[fx.GraphModule]:
    """Yield a module that shares the weights of ``network`` and rounds all values, to be trained.

    On exit the rounding is removed and ``network`` has the trained weights.
    """
    traced = fx.GraphModule(network, _LayerTracer().trace(network))
    parts = dict(traced.named_modules())
    device = next(network.parameters()).device
    for node in list(traced.graph.nodes):
        if _is_rounded(node, parts):
            name = f"rounded_{node.name}"
            traced.add_submodule(name, FakeActivation().to(device))
            with traced.graph.inserting_after(node):
                rounded = traced.graph.call_module(name, (node,))
            node.replace_all_uses_with(rounded, lambda user, new=rounded: user is not new)
    traced.recompile()
    layers = [part for part in network.modules() if isinstance(part, _WEIGHTS)]
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", FakeWeight(weight_bits))
    try:
        yield traced
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


class _LayerTracer(fx.Tracer):
    """Does not look into layers, nor into subclasses of PyTorch's layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or is_layer(type(m))


def _is_rounded(node: fx.Node, parts: Mapping[str, nn.Module]) -> bool:
    """Return whether the int8 file rounds here: not within convolution, norm and activation."""
    kinds = ("placeholder", "call_module", "call_function", "call_method")
    if node.op not in kinds or _is_size(node):
        return False
    if node.op == "call_module" and isinstance(parts[str(node.target)], nn.Dropout | nn.Identity):
        return False
    followers = [_part(user, parts) for user in node.users]
    part = _part(node, parts)
    after = followers[0] if len(followers) == 1 else None
    if isinstance(part, _WEIGHTS):
        return not isinstance(after, _NORMS + _ACTIVATIONS)
    return not (isinstance(part, _NORMS) and isinstance(after, _ACTIVATIONS))


def _is_size(node: fx.Node) -> bool:
    """Return whether a node is the shape of a feature map, or a part of it."""
    source = node.args[0] if node.args else None
    is_part = node.target is operator.getitem and isinstance(source, fx.Node)
    return node.target is getattr or (is_part and _is_size(cast(fx.Node, source)))


def _part(node: fx.Node, parts: Mapping[str, nn.Module]) -> nn.Module | None:
    return parts[str(node.target)] if node.op == "call_module" else None
