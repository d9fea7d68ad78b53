"""Training speed of a device: steps of the default space on synthetic images."""

from __future__ import annotations

from time import perf_counter
from typing import Literal

import msgspec
import torch

from hwnas.latency_models.cost import CostTable
from hwnas.processes import cores
from hwnas.search.plan import SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient, ProxylessOptions
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import MobileSpace, mobile_space
from hwnas.specialize.setup.work.minutes import search_epoch_s
from hwnas.specialize.setup.work.pace import Pace, search_pace, training_pace
from hwnas.training.compute import Compute, peak_bytes, resolve_compute
from hwnas.training.images.loader import Data
from hwnas.training.plan import TrainingPlan

LIMIT_S = 5.0
"""Time for which each kind of step is measured."""
BATCHES = 4
"""Batches of synthetic images; they are used again and again."""


class Workload(msgspec.Struct, frozen=True):
    """Images of one size, and the batch size."""

    input_shape: tuple[int, int, int]
    classes: int
    batch_size: int
    epoch_images: int
    """Images per epoch, for speeds in epochs per hour."""

    @property
    def space(self) -> MobileSpace:
        return mobile_space(self.input_shape, self.classes)


class TrainingSpeed(msgspec.Struct, frozen=True):
    """Speed of each kind of step on a device."""

    compute: Compute
    workload: Workload
    pace: Pace
    peak_bytes: int
    """Largest memory so far: of the GPU, or of this process on a CPU."""

    @property
    def epochs_per_hour(self) -> float:
        """Training epochs of a network per hour."""
        return 3600e3 / (self.pace.training_ms * self.workload.epoch_images)

    @property
    def search_epochs_per_hour(self) -> float:
        """Epochs of a search in an hour, after its warm-up."""
        plan, images = SearchPlan(), self.workload.epoch_images
        return 3600 / search_epoch_s(plan, self.pace, images)


def local_computes() -> list[Compute]:
    """Return this machine's CPU with all its cores and its CUDA devices, as ``auto`` uses them."""
    devices = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [resolve_compute(device, threads=cores()) for device in devices]


def default_workloads(compute: Compute) -> tuple[Workload, Workload]:
    """Return the images of Fashion-MNIST and 10,000 photos, in batches that suit the device."""
    small, photos = (64, 8) if compute.kind == "cpu" else (512, 256)
    return (
        Workload((1, 28, 28), 10, small, 60_000),
        Workload((3, 224, 224), 1000, photos, 10_000),
    )


def measure_training_speed(workload: Workload, compute: Compute) -> TrainingSpeed:
    """Measure training, weight and architecture steps for `LIMIT_S` each, or two steps."""
    compute.start()
    if compute.kind == "cuda":
        torch.cuda.reset_peak_memory_stats(compute.device)
    space, data = workload.space, synthetic_data(workload, compute)
    strategy = begin_synthetic_search(space, compute)
    search_plan = SearchPlan(batch_size=workload.batch_size)
    weight_ms, arch_ms = search_pace(strategy, data, data, search_plan, LIMIT_S, perf_counter)
    training_ms = training_pace(
        space.architecture(space.default),
        data,
        TrainingPlan(batch_size=workload.batch_size),
        LIMIT_S,
        perf_counter,
    )
    pace = Pace(weight_ms=weight_ms, arch_ms=arch_ms, training_ms=training_ms)
    return TrainingSpeed(compute, workload, pace, peak_bytes(compute.device))


def synthetic_data(workload: Workload, compute: Compute) -> Data:
    """Return `BATCHES` batches of noise."""
    count, channels = BATCHES * workload.batch_size, workload.input_shape[0]
    generator = torch.Generator().manual_seed(0)
    size = (count, *workload.input_shape)
    images = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    data = Data(
        images.contiguous(memory_format=torch.channels_last),
        torch.arange(count) % workload.classes,
        torch.full((channels, 1, 1), 0.5),
        torch.full((channels, 1, 1), 0.25),
        workload.classes,
    )
    return data.placed(compute)


def begin_synthetic_search(
    space: MobileSpace,
    compute: Compute,
    estimator: Literal["full", "two"] = "full",
    share_weights: bool = True,
) -> ProxylessGradient:
    """Return a ProxylessNAS search in which every candidate costs a millisecond."""
    torch.manual_seed(0)
    context = SearchContext(
        space=space,
        costs=CostTable(tuple((1.0,) * len(row) for row in space.blocks), 0.0),
        budget_ms=float(len(space.blocks)),
        generator=torch.Generator().manual_seed(0),
        share_weights=share_weights,
        options=ProxylessOptions(estimator),
        compute=compute,
    )
    return ProxylessGradient.begin(context)
