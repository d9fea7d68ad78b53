"""Cuts of blocks that were trained at smaller widths and kernels too, by slices of their weights.

The blocks of Once-for-all's supernets are trained so (Cai et al., ICLR 2020, arXiv:1908.09791,
section 3.3). A narrower block has the first inner channels: the training sorted them by the L1 norm
of the projection. A smaller kernel is the centre of the next larger, times a matrix that all
channels of the block share, so that 7 gives 5 and 5 gives 3:

    w_3 = M_53 centre_3(M_75 centre_5(w_7))

If a width was trained, its weights were, too. Only the batch norm behind them expects other inputs:
its mean and its variance are adapted by the statistics of a few images.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.nn.elastic.channels import Inner, select_inner
from hwnas.nn.elastic.kernel import crop_kernel
from hwnas.nn.elastic.projection import mean_shift

KernelMatrices = Mapping[int, Tensor]
"""Matrix ``[k*k, k*k]`` by the kernel size k of its result; it is applied to the centre of the
kernel of size ``k + 2``."""
TrainedSlices = Mapping[int, KernelMatrices]
"""The blocks that were trained to be sliced, by their index; without depthwise kernels their
matrices are empty."""
NO_SLICES: TrainedSlices = MappingProxyType({})
KERNELS = "kernels"
CONSTANT = 1e-12
"""Variance up to which an output counts as constant; then the variance of its batch norm stays."""


def slice_kernel(
    weights: dict[str, Tensor],
    layer: str,
    kernel_size: int,
    matrices: KernelMatrices,
    gram: Tensor | None,
) -> None:
    """Reduce the kernel ``[C, 1, k, k]`` of a depthwise layer in the ``weights`` of its block.

    ``gram [C, k*k + 1, k*k + 1]`` is that of the patches (`hwnas.nn.elastic.patches`); without it
    the batch norm stays as it is.
    """
    name = f"{layer}.conv.weight"
    kernel = smaller = weights[name]
    for size in range(kernel.shape[-1] - 2, kernel_size - 1, -2):
        taps = crop_kernel(smaller, size).flatten(1)
        smaller = F.linear(taps, matrices[size].to(taps)).view(-1, 1, size, size)
    weights[name] = smaller
    if gram is not None:
        margin = (kernel.shape[-1] - kernel_size) // 2
        before, now = kernel.flatten(1), F.pad(smaller, (margin,) * 4).flatten(1)
        mean, covariance = _patch_moments(gram)
        shift = ((now - before) * mean).sum(1)
        _adapt_norm(
            weights, layer, shift, *(_quadratic(each, covariance) for each in (before, now))
        )


def slice_width(
    weights: dict[str, Tensor],
    inner: Inner,
    channels: Tensor,
    gates: int,
    moments: tuple[Tensor, Tensor] | None,
) -> None:
    """Reduce a block to ``channels [K]`` of ``inner``, and its squeeze-excite to its first
    ``gates`` channels.

    ``moments`` are mean ``[I]`` and covariance ``[I, I]`` of the inner channels; without them the
    batch norm stays as it is. The pixels under a kxk kernel are assumed to be independent.
    """
    layer = f"layers.{inner.consumer}"
    kernel = weights[f"{layer}.conv.weight"]
    has_gates = "layers.se.squeeze.weight" in weights
    select_inner(weights, "layers", inner, channels, torch.arange(gates) if has_gates else None)
    if moments is not None:
        mean, covariance = moments
        taps = kernel.double().flatten(2).permute(2, 0, 1)  # [k * k, O, I]
        remaining = taps[..., channels]
        pairs = zip(taps, remaining, strict=True)
        shift = torch.stack([mean_shift(*pair, mean, channels) for pair in pairs]).sum(0)
        before = _quadratic(taps, covariance).sum(0)
        now = _quadratic(remaining, covariance[channels][:, channels]).sum(0)
        _adapt_norm(weights, layer, shift, before, now)


def packed(slices: TrainedSlices) -> dict[str, Tensor]:
    """Return ``slices`` as tensors by name, for a file."""
    tensors: dict[str, Tensor] = {}
    for place, matrices in slices.items():
        tensors[f"{place}/{KERNELS}"] = torch.tensor(sorted(matrices), dtype=torch.int64)
        tensors |= {f"{place}/{size}": matrix for size, matrix in matrices.items()}
    return tensors


def unpacked(tensors: Mapping[str, Tensor]) -> dict[int, dict[int, Tensor]]:
    """Return the slices from the tensors of `packed`."""
    slices: dict[int, dict[int, Tensor]] = {}
    for name, sizes in tensors.items():
        place, _, part = name.partition("/")
        if part == KERNELS:
            slices[int(place)] = {size: tensors[f"{place}/{size}"] for size in sizes.tolist()}
    return dict(sorted(slices.items()))


def _patch_moments(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean ``[C, k*k]`` and covariance ``[C, k*k, k*k]`` of the patches of each channel."""
    mean = gram[:, :-1, -1]
    return mean, gram[:, :-1, :-1] - mean[:, :, None] * mean[:, None, :]


def _quadratic(rows: Tensor, covariance: Tensor) -> Tensor:
    """Return the variance ``[...]`` of the output of each of ``rows [..., I]``."""
    rows = rows.double()
    return ((rows[..., None, :] @ covariance)[..., 0, :] * rows).sum(-1)


def _adapt_norm(
    weights: dict[str, Tensor], layer: str, shift: Tensor, before: Tensor, now: Tensor
) -> None:
    """Move the mean of a layer's batch norm by ``shift [C]``, and scale its variance by the ratio
    of the variances of its inputs ``now [C]`` and ``before``."""
    mean, variance = (f"{layer}.norm.running_{name}" for name in ("mean", "var"))
    ratio = torch.where(before > CONSTANT, now / before.clamp(min=CONSTANT), 1.0)
    weights[mean] = (weights[mean] + shift).to(weights[mean].dtype)
    weights[variance] = (weights[variance] * ratio).to(weights[variance].dtype)
