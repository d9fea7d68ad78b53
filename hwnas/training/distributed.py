"""Data-parallel training: the processes (ranks) that ``torchrun`` starts share every batch.

Every rank draws the same batches and paths from the same seeds and computes an equal shard of each
batch. Gradients are averaged and batch norms take their statistics over the whole batch
(`synced_norms`), so a step is that of a single process with the whole batch, up to rounding. The
connections of a rank that dies are closed: the other ranks then raise `RankLost`.

Tensors on the CPU are exchanged by gloo, those on CUDA devices by NCCL; tensors of other devices
are exchanged through the CPU.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hwnas.errors import HwnasError, UsageError, first_line
from hwnas.training.compute import full_precision

TIMEOUT = timedelta(days=7)
"""Ranks wait for rank 0 while it measures; a dead rank is noticed by its closed connection."""


CUDA_BACKENDS = "cpu:gloo,cuda:nccl"
DIGEST_BYTES = 7
"""Number of bytes of a digest, which fit into an int64."""


class RankLost(HwnasError):
    """Another rank ended or stopped answering; the work since the last checkpoint is lost."""


class RanksDiffer(HwnasError):
    """The ranks don't share the same work; every rank raises it."""


def ranks() -> int:
    """Return the number of processes that share the work."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process; rank 0 decides and writes."""
    return dist.get_rank() if ranks() > 1 else 0


def started_ranks() -> int:
    """Return the number of processes that ``torchrun`` started, on all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def process_group(device: str = "cpu") -> Iterator[None]:
    """Join the other processes of ``torchrun``, if it started this process with others.

    ``device`` is that of this rank. Raises `UsageError` for a GPU of another rank's number.
    """
    if started_ranks() < 2:
        yield
        return
    # The functions of this module take the default group at import time as a default argument, and
    # the first optimizer imports it. Imported later, it would keep the group and its threads alive
    # after it is destroyed, and a thread that frees a tensor while Python ends aborts the process.
    import torch.distributed.nn.functional  # noqa: F401  # pyright: ignore[reportUnusedImport]

    _communicate(_joining(device))
    try:
        yield
    finally:
        dist.destroy_process_group()


def _joining(device: str) -> Callable[[], None]:
    """Return the call that joins the process group with the backends of a device."""
    if not device.startswith("cuda"):
        return partial(dist.init_process_group, "gloo", timeout=TIMEOUT)
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if device != own:
        raise UsageError(
            f"--device {device}: this rank has the GPU of its own number, {own}; expected --device "
            "cuda, and CUDA_VISIBLE_DEVICES where only some GPUs are wanted"
        )
    gpu = torch.device(device)
    return partial(dist.init_process_group, CUDA_BACKENDS, timeout=TIMEOUT, device_id=gpu)


def shard(batch_size: int) -> slice:
    """Return this rank's part of a batch. Raises `UsageError` if the parts are not equal."""
    count = ranks()
    if batch_size % count:
        raise UsageError(
            f"a batch of {batch_size} images cannot be split into equal parts for {count} ranks"
        )
    return slice(rank() * batch_size // count, (rank() + 1) * batch_size // count)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks; all ranks have the same parameters."""
    if ranks() == 1:
        return  # listing the thousands of parameters of a supernet takes as long as a layer
    by_device: dict[torch.device, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_device.setdefault(parameter.grad.device, []).append(parameter.grad)
    for grads in by_device.values():
        mean = _sum_(torch.cat([grad.flatten() for grad in grads])) / ranks()
        for grad, part in zip(grads, mean.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))


def average(numbers: list[float]) -> list[float]:
    """Return the mean of each number over all ranks."""
    if ranks() == 1:
        return numbers
    total = torch.tensor(numbers, dtype=torch.float64)
    _sum_(total)
    return (total / ranks()).tolist()


def broadcast(message: Any = None) -> Any:
    """Return the message of rank 0, plain data for JSON; that of other ranks is ignored."""
    data = json.dumps(message).encode()
    size = torch.tensor(len(data))
    _communicate(lambda: dist.broadcast(size, 0))
    text = torch.zeros(int(size), dtype=torch.uint8)
    if rank() == 0:
        text = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    _communicate(lambda: dist.broadcast(text, 0))
    return json.loads(text.numpy().tobytes())


def broadcast_state(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return rank 0's tensors by name; those of other ranks are ignored."""
    specs = broadcast({name: (list(t.shape), str(t.dtype)) for name, t in state.items()})
    tensors: dict[str, Tensor] = {}
    for name, (shape, dtype) in specs.items():
        tensor = torch.empty(shape, dtype=getattr(torch, dtype.removeprefix("torch.")))
        if rank() == 0:
            tensor.copy_(state[name])
        _communicate(lambda tensor=tensor: dist.broadcast(tensor, 0))
        tensors[name] = tensor
    return tensors


def check_alike(value: object, what: str) -> None:
    """Raise `RanksDiffer` on all ranks if ``value``, plain data for JSON, differs between ranks.

    Ranks with different paths or images would not fail otherwise: they would average gradients of
    different weights, or wait for each other forever.
    """
    if ranks() == 1:
        return
    text = json.dumps(value).encode()
    digest = hashlib.blake2b(text, digest_size=DIGEST_BYTES).digest()
    digests = [torch.zeros((), dtype=torch.int64) for _ in range(ranks())]
    own = torch.tensor(int.from_bytes(digest, "big"))
    _communicate(lambda: dist.all_gather(digests, own))
    others = [str(number) for number, other in enumerate(digests) if other != digests[0]]
    if others:
        which = f"rank{'s' * (len(others) > 1)} {', '.join(others)}"
        raise RanksDiffer(f"{which} of {ranks()}: {what} not those of rank 0")


@contextmanager
def synced_norms(module: nn.Module) -> Iterator[None]:
    """Let batch norms take mean and variance over the shards of all ranks within the body."""
    norms = [part for part in module.modules() if type(part) is nn.BatchNorm2d]
    if ranks() > 1:
        for norm in norms:
            tensors = (*norm.parameters(), *norm.buffers())
            _sync(norm, on_cuda=any(tensor.is_cuda for tensor in tensors))
    try:
        yield
    finally:
        for norm in norms:
            norm.__class__ = nn.BatchNorm2d


def _sync(norm: nn.BatchNorm2d, on_cuda: bool) -> None:
    """Turn a batch norm into a synchronised one: PyTorch's on CUDA, which refuses the CPU."""
    if on_cuda:
        norm.__dict__["process_group"] = None  # all that its constructor adds
        norm.__class__ = nn.SyncBatchNorm  # pyright: ignore[reportAttributeAccessIssue]
    else:
        norm.__class__ = _SyncedNorm


class _SyncedNorm(nn.BatchNorm2d):
    """Batch norm over the shards of all ranks, which are of equal size; in float32."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        values = full_precision(input)
        count = ranks() * values.numel() // values.shape[1]
        mean = _SumOverRanks.apply(values.sum((0, 2, 3))) / count  # type: ignore[operator]
        centred = values - mean.view(1, -1, 1, 1)
        var = _SumOverRanks.apply(centred.square().sum((0, 2, 3))) / count  # type: ignore[operator]
        if self.track_running_stats:
            self._update_running_stats(mean.detach(), var.detach() * count / max(1, count - 1))
        scale = (var + self.eps).rsqrt()
        if self.weight is None:
            return (centred * scale.view(1, -1, 1, 1)).to(input.dtype)
        gain, shift = (scale * self.weight).view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        return (centred * gain + shift).to(input.dtype)

    @torch.no_grad()
    def _update_running_stats(self, mean: Tensor, var: Tensor) -> None:
        """Update the running statistics as PyTorch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        weight = self.momentum
        if weight is None:
            weight = 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(var, weight)


class _SumOverRanks(torch.autograd.Function):
    """Sum over the ranks; the gradient of each rank is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, local: Tensor) -> Tensor:
        return _sum_(local.contiguous().clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _sum_(grad.contiguous().clone())


def _sum_(tensor: Tensor) -> Tensor:
    """Replace a tensor by its sum over the ranks."""
    direct = tensor.device.type in ("cpu", "cuda")
    total = tensor if direct else tensor.cpu()
    _communicate(lambda: dist.all_reduce(total))
    return total if direct else tensor.copy_(total)


def _communicate(collective: Callable[[], object]) -> None:
    """Run a collective operation; raise `RankLost`, one line, where another rank is gone."""
    try:
        collective()
    except RuntimeError as error:
        reason = first_line(error, "no reason given")
        raise RankLost(
            f"rank {os.environ.get('RANK', '?')} of {os.environ.get('WORLD_SIZE', '?')}: another "
            f"rank is lost, so this rank ends too; the last checkpoint is still there ({reason})"
        ) from None
