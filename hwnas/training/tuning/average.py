"""An exponential moving average of the weights of a training (Polyak averaging).

PyTorch's ``AveragedModel`` copies its count to the device in each step, for which the host waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn


class AveragedNetwork(nn.Module):
    """A copy of a network, ``module``, whose weights are averages over the steps so far.

    Buffers, such as the statistics of batch norms, are those of the last step.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """``network`` is on its device already. The first `update` takes its weights as they are;
        each later one keeps ``decay`` of the average."""
        super().__init__()
        self.decay = decay
        self.module = deepcopy(network)
        self.register_buffer("n_averaged", torch.tensor(0))
        self.n_averaged: Tensor  # of `update` so far, on the host
        self._weights = _pairs(list(self.module.parameters()), list(network.parameters()))
        self._buffers_of_both = [
            pair
            for dtype in {buffer.dtype for buffer in network.buffers()}
            if (pair := _pairs(_of(self.module, dtype), _of(network, dtype)))[0]
        ]

    @torch.no_grad()
    def update(self) -> None:
        """Add the present weights of the network to the average."""
        own, new = self._weights
        if self.n_averaged == 0:
            torch._foreach_copy_(own, new)  # pyright: ignore[reportPrivateImportUsage]
        else:
            torch._foreach_lerp_(own, new, 1 - self.decay)  # pyright: ignore[reportPrivateImportUsage]
        for own, new in self._buffers_of_both:
            torch._foreach_copy_(own, new)  # pyright: ignore[reportPrivateImportUsage]
        self.n_averaged += 1

    @torch.no_grad()
    def copy_to(self, network: nn.Module) -> None:
        """Give ``network`` the averaged weights; its buffers stay."""
        for own, mean in zip(network.parameters(), self.module.parameters(), strict=True):
            own.copy_(mean)


Tensors = list[Tensor]


def _pairs(own: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensors, Tensors]:
    return [tensor.detach() for tensor in own], [tensor.detach() for tensor in new]


def _of(network: nn.Module, dtype: torch.dtype) -> Tensors:
    return [buffer for buffer in network.buffers() if buffer.dtype == dtype]
