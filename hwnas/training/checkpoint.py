"""Checkpoints: tensors and a few text notes in a safetensors file, written atomically."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwnas.errors import HwnasError, InvalidFile, last_line
from hwnas.files import replace_keeping, write_atomic
from hwnas.integrity import DIGEST, is_intact_checkpoint, seal_checkpoint
from hwnas.training.compute import load_scaler, scaler_state
from hwnas.training.log import EpochLog

CHECKPOINT_INTERVAL_S = 30.0
"""Least time between two checkpoints within an epoch."""
QUICK_CHECKPOINT_S = 0.6
"""Writing time from which checkpoints are written less often, so that they take at most 2 % of the
time."""


class BestEpoch(msgspec.Struct, frozen=True):
    """The epoch of a training whose weights are best on the validation images."""

    epoch: int
    accuracy: float


class Place(msgspec.Struct, frozen=True):
    """The position in a training at which a checkpoint continues it: a note of the checkpoint."""

    epoch: int = 0
    """Whole epochs before it."""
    step: int = 0
    """Steps before it."""
    sums: tuple[float, float, int] = (0.0, 0.0, 0)
    """Sums of loss and accuracy over the steps of its epoch so far, and their number."""
    line: EpochLog | None = None
    """Log line of the last whole epoch, which may be missing from the log after a kill."""
    best: BestEpoch | None = None
    """The best epoch so far, if the plan has patience."""


class TrainingState(NamedTuple):
    """The state that a training changes: weights, statistics, momenta, averaged weights, loss
    scale."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    averaged: nn.Module | None
    scaler: torch.amp.GradScaler

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it by name."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            buffer = self.optimizer.state.get(parameter, {}).get("momentum_buffer")
            if buffer is not None:
                state[f"momentum.{name}"] = buffer
        if self.averaged is not None:
            averaged = self.averaged.state_dict()
            state |= {f"averaged.{name}": value for name, value in averaged.items()}
        return state | scaler_state(self.scaler)

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors of `tensors`, which may be on another device."""
        self.network.load_state_dict(strip_prefix("network.", state))
        momenta = strip_prefix("momentum.", state)
        for name, parameter in self.network.named_parameters():
            if name in momenta:
                self.optimizer.state[parameter]["momentum_buffer"] = like(parameter, momenta[name])
        if self.averaged is not None:
            self.averaged.load_state_dict(strip_prefix("averaged.", state))
        load_scaler(self.scaler, state)


def strip_prefix(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, by the rest of their names."""
    size = len(prefix)
    return {name[size:]: value for name, value in state.items() if name.startswith(prefix)}


def next_checkpoint_s(begun_s: float, interval_s: float) -> float:
    """Return when the next checkpoint is due, after one that was begun at ``begun_s`` of the
    monotonic clock."""
    now = time.monotonic()
    return now + interval_s * max(1.0, (now - begun_s) / QUICK_CHECKPOINT_S)


def read_place(notes: dict[str, str]) -> Place:
    """Return the place in the notes of a checkpoint; the start where there are none."""
    return msgspec.json.decode(notes.get("place", "{}"), type=Place)


def save_checkpoint(
    path: Path, tensors: dict[str, Tensor], notes: dict[str, str], keep_previous: bool = False
) -> None:
    """Write ``tensors``, from any device, and ``notes``; a kill leaves the old file or the new.

    The file holds its own hash (`hwnas.integrity`). With ``keep_previous`` the old file stays
    beside it, and `hwnas.recovery.recover` returns to it if the new one is damaged. Raises
    `WriteError`.
    """
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    content = seal_checkpoint(save(copies, metadata=notes))
    if keep_previous:
        replace_keeping(path, content)
    else:
        write_atomic(path, content)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and notes that `save_checkpoint` wrote.

    Raises `InvalidFile` if the file cannot be read or its hash differs.
    """
    try:
        if not is_intact_checkpoint(path.read_bytes()):
            raise InvalidFile(str(path), "not a readable checkpoint (it is damaged)")
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InvalidFile(str(path), f"not a readable checkpoint ({error})") from None
    return tensors, {name: note for name, note in notes.items() if name != DIGEST}


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a ``.safetensors`` file. Raises `InvalidFile` if they do not fit."""
    weights, _ = load_checkpoint(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        mismatch = last_line(str(error))
        raise InvalidFile(str(path), f"does not fit this network: {mismatch}") from None


def like(parameter: Tensor, values: Tensor) -> Tensor:
    """Return ``values`` on the device and in the memory layout of ``parameter``."""
    return torch.empty_like(parameter, requires_grad=False).copy_(values)


def check_finite(state: dict[str, Tensor], where: str) -> None:
    """Raise `HwnasError`, which names the tensor, if one is not finite; a read for each
    device."""
    finite: dict[torch.device, list[Tensor]] = {}
    for value in state.values():
        finite.setdefault(value.device, []).append(value.isfinite().all())
    if all(bool(torch.stack(values).all()) for values in finite.values()):
        return
    name = next(name for name, value in state.items() if not value.isfinite().all())
    raise HwnasError(f"{name} is not finite after {where}; the last good checkpoint stays")
