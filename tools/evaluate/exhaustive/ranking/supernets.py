"""Training of the shared weights under a variant."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.supernet import SlicedMBConv, Slices, Supernet
from hwnas.search.path_training import SlicedSGD
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Batch, Data
from hwnas.training.seeds import derived_seed
from tools.evaluate.exhaustive.problem import TABLE_TASK, Choices, Task, space
from tools.evaluate.exhaustive.ranking.variants import Variant
from tools.evaluate.exhaustive.table import Table

MOMENTUM, WEIGHT_DECAY, RISE = 0.9, 4e-5, 0.1
"""SGD's momentum and weight decay, and the share of warm-up, as in `hwnas.search.path_training` and
`hwnas.search.plan`."""


class Mark(NamedTuple):
    """The state of a supernet after some epochs."""

    epoch: int
    supernet: Supernet
    cpu_s: float
    """Processor time of the training up to here."""


def trained(
    variant: Variant, table: Table, train: Data, seed: int, task: Task = TABLE_TASK
) -> Iterator[Mark]:
    """Train a supernet; yield it after each of the marked epochs and after the last."""
    torch.manual_seed(derived_seed(seed, "supernet"))
    supernet = Supernet(space(task), variant.share_weights)
    if variant.unit_gain:
        _unit_gains(supernet)
    optimizer = SlicedSGD(
        supernet.parameters(), 0.0, MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    batches = Batches(train, variant.batch_size, NO_AUGMENTATION, seed)
    paths = Paths(variant, table, seed)
    steps = variant.epochs * batches.steps
    average = deepcopy(supernet) if variant.averaged else None
    cpu_s, begun_s = 0.0, time.process_time()
    for step in range(steps):
        supernet.train()
        for group in optimizer.param_groups:
            group["lr"] = _rate(variant, step / steps)
        optimizer.zero_grad(set_to_none=True)
        chosen = paths.draw()
        _loss(variant, supernet, batches.batch(step), chosen).backward()
        optimizer.used = _used(supernet, chosen)
        optimizer.step()
        if average is not None:
            _move(average, supernet, min(variant.averaged, step / (step + 10)))
        epoch, left = divmod(step + 1, batches.steps)
        if not left and (epoch in variant.marks or step + 1 == steps):
            cpu_s += time.process_time() - begun_s
            yield Mark(epoch, average or supernet, cpu_s)
            begun_s = time.process_time()


class Paths:
    """Draw the paths of each step."""

    def __init__(self, variant: Variant, table: Table, seed: int) -> None:
        self.variant = variant
        self.rng = np.random.default_rng(derived_seed(seed, "paths"))
        self.sizes = [len(decision.candidates) for decision in space().decisions]
        self.rows = table.choices
        # each tenth of the range of the costs is drawn as often
        spread = np.ptp(table.macs)
        tenth = np.minimum(9, (10 * (table.macs - table.macs.min()) / spread).astype(int))
        weights = 1 / np.bincount(tenth, minlength=10)[tenth]
        self.shares = weights / weights.sum()
        self.largest = _choices(self.rows[table.macs.argmax()])
        self.smallest = _choices(self.rows[table.macs.argmin()])

    def draw(self) -> list[Choices]:
        """Return the paths of a step; those of ``sandwich`` begin with the largest."""
        count = self.variant.paths
        match self.variant.sampling:
            case "uniform":
                return [self._uniform() for _ in range(count)]
            case "cost":
                rows = self.rng.choice(len(self.rows), count, p=self.shares)
                return [_choices(self.rows[row]) for row in rows]
            case "fair":
                columns = [self._permuted(size, count) for size in self.sizes]
                return [_choices(row) for row in np.array(columns).T]
            case "sandwich":
                return [self.largest, *(self._uniform() for _ in range(count - 2)), self.smallest]

    def _uniform(self) -> Choices:
        return tuple(int(self.rng.integers(size)) for size in self.sizes)

    def _permuted(self, size: int, count: int) -> np.ndarray:
        """Return ``count`` candidates in random order, all equally often up to a difference of
        one."""
        rounds = -(-count // size)
        return np.concatenate([self.rng.permutation(size) for _ in range(rounds)])[:count]


def _choices(row: np.ndarray) -> Choices:
    return tuple(map(int, row))


def _loss(variant: Variant, supernet: Supernet, batch: Batch, paths: list[Choices]) -> Tensor:
    """Return the mean loss of the paths."""
    images, labels = batch
    parts = (
        [(images, labels)] * len(paths)
        if variant.whole
        else list(zip(images.chunk(len(paths)), labels.chunk(len(paths)), strict=True))
    )
    losses: list[Tensor] = []
    answers: Tensor | None = None
    for (part, wanted), path in zip(parts, paths, strict=True):
        logits = supernet(part, path)
        target = wanted if answers is None else answers
        smoothing = variant.label_smoothing if answers is None else 0.0
        losses.append(F.cross_entropy(logits, target, label_smoothing=smoothing))
        if variant.distil and answers is None:
            answers = logits.detach().softmax(1)
    return torch.stack(losses).mean()


def _used(supernet: Supernet, paths: list[Choices]) -> dict[Tensor, Slices]:
    """Return the smallest slices of the shared weights that contain those of all paths."""
    used: dict[Tensor, Slices] = {}
    for path in paths:
        for weight, part in supernet.slices(path).items():
            used[weight] = _hull(used[weight], part) if weight in used else part
    return used


def _hull(a: Slices, b: Slices) -> Slices:
    return tuple(
        slice(None)
        if slice(None) in (first, second)
        else slice(min(first.start or 0, second.start or 0), max(first.stop, second.stop))
        for first, second in zip(a, b, strict=True)
    )


def _rate(variant: Variant, progress: float) -> float:
    rise = min(1.0, progress / RISE + 1e-3)
    fall = 0.5 * (1 + math.cos(math.pi * progress)) if variant.anneal else 1.0
    return variant.learning_rate * rise * fall


@torch.no_grad()
def _unit_gains(supernet: Supernet) -> None:
    for module in supernet.modules():
        if isinstance(module, SlicedMBConv) and module.block.residual:
            nn.init.ones_(module.project_norm.weight)


@torch.no_grad()
def _move(average: Supernet, supernet: Supernet, momentum: float) -> None:
    for slow, fast in zip(average.parameters(), supernet.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)
