"""Data parallel training: the processes (ranks) that ``torchrun`` starts share every batch.

Every rank draws the same batches and paths from the same seeds and computes an equal part of each
batch; gradients are averaged, and batch norms take their statistics over the whole batch (see
`synced_norms`). So a step is that of one process with the whole batch, up to rounding. A rank that
is lost closes its connections: the others end with a `RankLost`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwnas.errors import HwnasError, UsageError

WAIT = timedelta(days=7)
"""Ranks wait for rank 0 while it measures; what is lost is told by its closed connection."""


class RankLost(HwnasError):
    """A rank that ended or stopped answering; what it and the others did last is not saved."""


def ranks() -> int:
    """Return the number of processes that share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number; 0 is the one that decides and writes."""
    return dist.get_rank() if ranks() > 1 else 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the other processes of ``torchrun``, if it started this one with any."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    # Its functions have the group of the moment of their import as a default argument, and the
    # first optimizer imports it: imported any later, the group and its threads would live on after
    # it is destroyed, and a thread that frees a tensor while Python ends would abort the process.
    import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

    _told(lambda: dist.init_process_group("gloo", timeout=WAIT))
    try:
        yield
    finally:
        dist.destroy_process_group()


def share(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return this rank's part of a batch. Raises `UsageError` if the parts are not equal."""
    count = ranks()
    if count == 1:
        return images, labels
    if len(labels) % count:
        raise UsageError(
            f"a batch of {len(labels)} images has no {count} equal parts for {count} ranks"
        )
    mine = slice(rank() * len(labels) // count, (rank() + 1) * len(labels) // count)
    return images[mine], labels[mine]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks; all have gradients of the same ones."""
    if ranks() == 1:
        return  # a supernet has thousands of parameters: to list them takes as long as a layer
    grads = [one.grad for one in parameters if one.grad is not None]
    if not grads:
        return
    flat = torch.cat([grad.flatten() for grad in grads])
    _sum_(flat)
    for grad, mean in zip(grads, (flat / ranks()).split([g.numel() for g in grads]), strict=True):
        grad.copy_(mean.view_as(grad))


def averaged(numbers: list[float]) -> list[float]:
    """Return the mean of each number over the ranks."""
    if ranks() == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64)
    _sum_(total)
    return (total / ranks()).tolist()


def told(message: Any = None) -> Any:
    """Return what rank 0 says, plain data for JSON; the others' ``message`` is not looked at."""
    data = json.dumps(message).encode()
    size = torch.tensor(len(data))
    _told(lambda: dist.broadcast(size, 0))
    text = torch.zeros(int(size), dtype=torch.uint8)
    if rank() == 0:
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    _told(lambda: dist.broadcast(text, 0))
    return json.loads(text.numpy().tobytes())


def told_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return rank 0's tensors by name; those of the others are not looked at."""
    kinds = {name: (list(one.shape), str(one.dtype)) for name, one in state.items()}
    kinds = told(kinds)
    found: dict[str, Tensor] = {}
    for name, (shape, kind) in kinds.items():
        tensor = torch.empty(shape, dtype=getattr(torch, kind.removeprefix("torch.")))
        if rank() == 0:
            tensor.copy_(state[name])
        _told(lambda tensor=tensor: dist.broadcast(tensor, 0))
        found[name] = tensor
    return found


@contextmanager
def synced_norms(module: nn.Module) -> Iterator[None]:
    """Let batch norms take mean and variance over the batches of all ranks, and only meanwhile."""
    norms = [part for part in module.modules() if type(part) is nn.BatchNorm2d]
    if ranks() > 1:
        for norm in norms:
            norm.__class__ = _SyncedNorm
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d


class _SyncedNorm(nn.BatchNorm2d):
    """Batch norm of the whole batch; all ranks have equal parts. `torch.nn.SyncBatchNorm` does the
    same on GPUs only."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        count = ranks() * input.numel() // input.shape[1]
        mean = _Summed.apply(input.sum((0, 2, 3))) / count  # type: ignore[operator]
        centred = input - mean.view(1, -1, 1, 1)
        var = _Summed.apply(centred.square().sum((0, 2, 3))) / count  # type: ignore[operator]
        if self.track_running_stats:
            self._follow(mean.detach(), var.detach() * count / max(1, count - 1))
        scale = (var + self.eps).rsqrt()
        if self.weight is None:
            return centred * scale.view(1, -1, 1, 1)
        gain, shift = (scale * self.weight).view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        return centred * gain + shift

    @torch.no_grad()
    def _follow(self, mean: Tensor, var: Tensor) -> None:
        """Move the running statistics as PyTorch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = self.momentum
        if weight is None:
            weight = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var, weight)


class _Summed(torch.autograd.Function):
    """Sum over the ranks; each rank's gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _sum_(local.contiguous().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _sum_(grad.contiguous().clone())


def _sum_(tensor: Tensor) -> Tensor:
    _told(lambda: dist.all_reduce(tensor))
    return tensor


def _told(talk: Callable[[], object]) -> None:
    """Talk to the other ranks; one that is gone is told in one line."""
    try:
        talk()
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0] if str(error) else "no reason given"
        raise RankLost(
            f"rank {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE', '?')}: another "
            f"rank is lost, so this one ends; the last checkpoint is kept ({first})"
        ) from None
