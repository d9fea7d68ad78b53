"""How much rounding may change the outputs of a network: Monte Carlo arithmetic.

The result of every operation is changed at random by about as much as float32 rounds it, as in
Parker, "Monte Carlo Arithmetic: exploiting randomness in floating-point arithmetic", UCLA 1997.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._decomp import get_decompositions
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

aten = torch.ops.aten
ROUNDING = 2.0**-24
"""Largest relative error of a float32 operation."""
NORMS = (
    *(aten.native_group_norm, aten.native_layer_norm, aten.native_batch_norm),
    *(aten.logsumexp, aten.var_mean, aten.var, aten.std),
)
SUMS = {
    *(aten.sum, aten.mean, aten.mm, aten.bmm, aten.addmm, aten.convolution),
    *(aten.avg_pool2d, aten._adaptive_avg_pool2d, torch.ops.prims.sum),
}
"""Operations whose error is relative to the sum of the absolute values of their terms."""


class RoundedArithmetic(TorchDispatchMode):
    """Changes the results of operations on float32 tensors at random.

    In a sum each of ``n`` additions rounds what was added so far: ``k`` means and ``sqrt(k)``
    deviations after ``k`` terms. The standard error is ``ROUNDING`` times the absolute sum of the
    terms over ``sqrt(2)``, and times their sum and ``sqrt(n / 3)``.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)
        self._decompositions: Mapping[Any, Any] = get_decompositions(NORMS)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self._decompositions:
            with self:
                return self._decompositions[func](*args, **kwargs)
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor) or result.dtype != torch.float32 or func.is_view:
            return result
        scale = result.abs()
        if func.overloadpacket in SUMS:
            terms = _terms(func.overloadpacket, args, result)
            absolute = func(*tree_map(_absolute, args), **kwargs)
            scale = absolute / 2**0.5 + scale * (terms / 3) ** 0.5
        change = torch.randn(result.shape, generator=self._generator) * scale * ROUNDING
        return result.add_(change) if func._schema.is_mutable else result + change


def _terms(operation: Any, args: tuple[Any, ...], result: Tensor) -> float:
    """Return the number of terms of each sum."""
    if operation in (aten.mm, aten.bmm):
        return args[0].shape[-1]
    if operation == aten.addmm:
        return args[1].shape[-1]
    if operation == aten.convolution:
        return args[1][0].numel()
    return max(1.0, args[0].numel() / max(1, result.numel()))


def _absolute(value: Any) -> Any:
    return value.abs() if isinstance(value, Tensor) and value.is_floating_point() else value
