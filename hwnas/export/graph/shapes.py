"""Shapes of the most frequent operations, without PyTorch's slow rules on ``meta`` tensors.

Unusual cases and errors are left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

META = torch.device("meta")
KEEPS_SHAPE = frozenset(
    {
        *("relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "sigmoid", "tanh", "silu"),
        *("gelu", "mish", "elu", "leaky_relu", "clamp", "softmax", "exp", "abs", "sqrt"),
    }
)
"""Operations whose result has the shape, and the order in memory, of their operand."""
ARITHMETIC = frozenset({"add", "sub", "mul", "div"})


def quick_result(op: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return a ``meta`` tensor like the result of ``op``, None if PyTorch has to compute it.

    ``args`` are its arguments, with ``meta`` tensors for those that depend on the image.
    """
    if op == "cat" and not kwargs:
        return _cat(*args)
    if kwargs or not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
        return None
    if op in KEEPS_SHAPE:
        return _like(args[0])
    rule = RULES.get(op)
    return None if rule is None else rule(*args)


def _arithmetic(left: Tensor, right: Any) -> Tensor | None:
    if isinstance(right, int | float):
        return _like(left)
    same = isinstance(right, Tensor) and right.dtype == left.dtype
    return _like(left) if same and right.shape == left.shape else None


def _batch_norm(image: Tensor, *args: Any) -> Tensor | None:
    known = [value for value in args[:4] if isinstance(value, Tensor)]
    fits = image.dim() == 4 and all(value.shape == image.shape[1:2] for value in known)
    return _like(image) if fits and known else None


def _conv2d(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> Tensor | None:
    plain = image.dim() == weight.dim() == 4 and image.dtype == weight.dtype
    if not plain or isinstance(padding, str) or image.shape[1] != weight.shape[1] * groups:
        return None
    pairs = [(item[0], item[-1]) for item in (stride, padding, dilation)]
    sizes = [
        (image.shape[2 + n] + 2 * pad[n] - gap[n] * (weight.shape[2 + n] - 1) - 1) // jump[n] + 1
        for jump, pad, gap in (pairs,)
        for n in (0, 1)
    ]
    if min(sizes) < 1 or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    return torch.empty((image.shape[0], weight.shape[0], *sizes), dtype=image.dtype, device=META)


def _like(tensor: Tensor) -> Tensor:
    return torch.empty_strided(
        tensor.shape, tensor.stride(), dtype=tensor.dtype, device=META
    )  # `torch.empty_like` takes ten times as long on ``meta``


def _linear(value: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor | None:
    fits = value.dim() > 1 and weight.dim() == 2 and value.shape[-1] == weight.shape[1]
    if not fits or value.dtype != weight.dtype:
        return None
    shape = (*value.shape[:-1], weight.shape[0])
    return torch.empty(shape, dtype=value.dtype, device=META)


def _pad(
    value: Tensor, amounts: Any, mode: str = "constant", fill: float | None = None
) -> Tensor | None:
    """Return the padded value; the rule of PyTorch imports its compiler, which takes seconds."""
    if mode != "constant" or not value.is_contiguous() or len(amounts) > 2 * value.dim():
        return None
    sizes = list(value.shape)
    for place, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True), 1):
        sizes[-place] += before + after
    return torch.empty(sizes, dtype=value.dtype, device=META) if min(sizes) > 0 else None


def _cat(tensors: Any, dim: int = 0) -> Tensor | None:
    """Return the concatenation; its rule imports PyTorch's compiler, as that of padding does."""
    first = tensors[0]
    others = [size for axis, size in enumerate(first.shape) if axis != dim % max(first.dim(), 1)]
    for tensor in tensors:
        sizes = [n for axis, n in enumerate(tensor.shape) if axis != dim % max(tensor.dim(), 1)]
        same = tensor.dtype == first.dtype and tensor.dim() == first.dim() > 0 and sizes == others
        if not same or not tensor.is_contiguous() or not -first.dim() <= dim < first.dim():
            return None
    shape = list(first.shape)
    shape[dim] = sum(tensor.shape[dim] for tensor in tensors)
    return torch.empty(shape, dtype=first.dtype, device=META)


def _bmm(left: Tensor, right: Any) -> Tensor | None:
    """Return the products; their rule imports SymPy, which takes most of a second."""
    fits = isinstance(right, Tensor) and left.dtype == right.dtype
    if not fits or left.dim() != 3 or right.dim() != 3:
        return None
    if left.shape[0] != right.shape[0] or left.shape[2] != right.shape[1]:
        return None
    return torch.empty((*left.shape[:2], right.shape[2]), dtype=left.dtype, device=META)


def _adaptive_avg_pool2d(image: Tensor, size: Any) -> Tensor | None:
    if image.dim() != 4:
        return None
    return torch.empty((*image.shape[:2], *size), dtype=image.dtype, device=META)


RULES: dict[str, Callable[..., Tensor | None]] = {
    **dict.fromkeys(ARITHMETIC, _arithmetic),
    "batch_norm": _batch_norm,
    "bmm": _bmm,
    "conv2d": _conv2d,
    "linear": _linear,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    "adaptive_avg_pool2d": _adaptive_avg_pool2d,
}
