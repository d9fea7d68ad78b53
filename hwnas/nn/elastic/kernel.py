"""Smaller depthwise kernels, by least squares on the input patches of the larger ones.

For each channel the taps inside and an intercept replace the ring that is removed:

    [k; b] = [w_I; 0] + (G_II + R)^-1 G_IO w_O,    G = E [patch; 1] [patch; 1]^T

I are the taps inside and the intercept, O the taps of the ring, and the ridge R pulls towards the
crop. 7 to 5 to 3 gives the kernel of 7 to 3 but for the ridge, because the taps are nested.
"""

from __future__ import annotations

import torch
from torch import Tensor

KERNEL_RIDGE = 1e-5
"""Share of the mean squared input that is added to the square of each tap."""


def cut_kernel(
    kernel: Tensor, gram: Tensor, kernel_size: int, ridge: float = KERNEL_RIDGE
) -> tuple[Tensor, Tensor]:
    """Return the kernel ``[C, 1, k', k']`` and the intercept ``[C]``, both float64.

    ``kernel`` is ``[C, 1, k, k]``, ``gram [C, k*k + 1, k*k + 1]``. The intercept is subtracted
    from the mean of the batch norm that follows.
    """
    inside = inner_taps(kernel.shape[-1], kernel_size)
    solved = torch.cat((inside, torch.tensor([True])))
    taps = kernel.double().flatten(1)
    lost = (gram[:, solved][:, :, :-1][:, :, ~inside] @ taps[:, ~inside, None])[..., 0]
    system = gram[:, solved][:, :, solved] + _ridge(gram, int(inside.sum()), ridge)
    change = torch.linalg.solve(system, lost)
    smaller = taps[:, inside] + change[:, :-1]
    return smaller.view(len(kernel), 1, kernel_size, kernel_size), change[:, -1]


def crop_kernel(kernel: Tensor, kernel_size: int) -> Tensor:
    """Return the centre ``[C, 1, k', k']`` of ``kernel [C, 1, k, k]``."""
    margin = (kernel.shape[-1] - kernel_size) // 2
    return kernel[..., margin : margin + kernel_size, margin : margin + kernel_size].contiguous()


def inner_taps(kernel_size: int, smaller: int) -> Tensor:
    """Return which taps of a kernel are in its centre, bool ``[k * k]`` in rows."""
    margin = (kernel_size - smaller) // 2
    inside = torch.zeros(kernel_size, kernel_size, dtype=torch.bool)
    inside[margin : margin + smaller, margin : margin + smaller] = True
    return inside.flatten()


def _ridge(gram: Tensor, taps: int, ridge: float) -> Tensor:
    """Return R ``[C, taps + 1, taps + 1]``, without a ridge for the intercept."""
    power = gram.diagonal(dim1=1, dim2=2)[:, :-1].mean(1).clamp(min=1e-12)  # a channel may be dead
    diagonal = (ridge * power)[:, None].repeat(1, taps + 1)
    diagonal[:, -1] = 0.0
    return torch.diag_embed(diagonal)
