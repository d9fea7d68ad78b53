"""Do a GPU and the CPU compute the same, and a GPU twice the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

from hwnas.latency_models.cost import CostTable
from hwnas.nn.build import build
from hwnas.search.cells.darts import DartsSecond
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import cell_space
from hwnas.specialize.setup.work.synthetic import (
    Workload,
    begin_synthetic_search,
    synthetic_data,
)
from hwnas.training.compute import Compute
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.loader import Batch, Data
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tools.bench.gpu.scale import Rows, Scale

STEPS = 10
RATE = 0.01
TOLERANCES = {"float64": 1e-9, "float32": 1e-3}
"""Largest relative L2 difference that is accepted after the steps, by precision."""
DETERMINISM_EPOCHS = 8
"""Epochs of four steps."""

State = dict[str, Tensor]
Work = Callable[[Compute, torch.dtype], State]


class Converted(Data):
    """Data whose normalised images have another type."""

    dtype = torch.float64

    def normalise(self, images: Tensor) -> Tensor:
        return super().normalise(images).to(self.dtype)


def agreement(scale: Scale) -> Rows:
    """Return the largest relative L2 difference of a tensor between CPU and device."""
    return [row for title, work in works(scale).items() for row in compare(title, work, scale)]


def works(scale: Scale) -> dict[str, Work]:
    """Return the computations that both devices do, by title."""
    workload, steps = scale.thumbnails(64), 1 if scale.small else STEPS
    return {
        "training": partial(_trained, workload),
        "proxyless, full": partial(_searched, workload, "full", steps),
        "proxyless, two": partial(_searched, workload, "two", steps),
        "DARTS, second order": partial(_darts, workload, cells=3 if scale.small else 8),
    }


def compare(title: str, work: Work, scale: Scale) -> Rows:
    """Return a row for each type."""
    with _ieee():
        return [
            {
                "work": title,
                "type": name,
                "difference": difference(
                    work(Compute(), dtype), work(Compute(scale.device), dtype)
                ),
                "tolerance": TOLERANCES[name],
            }
            for name, dtype in (("float64", torch.float64), ("float32", torch.float32))
        ]


def determinism(scale: Scale) -> Rows:
    """Return whether 32 steps give the same weights twice, and their time, with and without
    deterministic algorithms."""
    compute = scale.start()
    workload = scale.thumbnails(512)
    repeated = [_timed(workload, compute) for _ in range(3)]  # the first one warms up
    torch.use_deterministic_algorithms(False)
    free = [_timed(workload, compute) for _ in range(2)]
    return [
        {
            "same weights": len({digest for digest, _ in repeated}) == 1,
            "deterministic_s": min(seconds for _, seconds in repeated[1:]),
            "same without": len({digest for digest, _ in free}) == 1,
            "free_s": min(seconds for _, seconds in free),
        }
    ]


def _timed(workload: Workload, compute: Compute) -> tuple[str, float]:
    start = perf_counter()
    state = _trained(workload, compute, torch.float32, DETERMINISM_EPOCHS)
    digest = hashlib.sha256()
    for value in state.values():
        digest.update(value.cpu().numpy().tobytes())
    return digest.hexdigest(), perf_counter() - start


def _trained(workload: Workload, compute: Compute, dtype: torch.dtype, epochs: int = 2) -> State:
    """Train the default network without dropout."""
    torch.manual_seed(0)
    space = workload.space
    network = compute.place(build(space.architecture(space.default)).to(dtype))
    data = synthetic_data(workload, compute)
    if dtype == torch.float64:
        data = Converted(*data)
    plan = TrainingPlan(
        epochs=epochs,
        batch_size=workload.batch_size,
        peak_learning_rate=RATE,
        dropout=0.0,
        augmentation=NO_AUGMENTATION,
    )
    train(network, data, plan, 0)
    return network.state_dict()


def _searched(
    workload: Workload,
    estimator: Literal["full", "two"],
    steps: int,
    compute: Compute,
    dtype: torch.dtype,
) -> State:
    search = begin_synthetic_search(workload.space, compute, estimator)
    search.supernet.to(dtype)
    for _ in range(steps):
        search.weight_step(_batch(workload, compute, dtype), RATE)
        search.architecture_step(_batch(workload, compute, dtype))
    return search.supernet.state_dict() | {"arch_logits": search.arch_logits.detach()}


def _darts(workload: Workload, compute: Compute, dtype: torch.dtype, cells: int) -> State:
    space = cell_space(workload.input_shape, workload.classes, 2 * cells, cells)
    torch.manual_seed(0)
    context = SearchContext(
        space=space,
        costs=CostTable(tuple((1.0,) * len(each.candidates) for each in space.decisions), 0.0),
        budget_ms=10.0,
        generator=torch.Generator().manual_seed(0),
        compute=compute,
    )
    search = DartsSecond.begin(context)
    search.weights.supernet.to(dtype)
    for _ in range(2):
        search.weight_step(_batch(workload, compute, dtype), RATE)
        search.architecture_step(_batch(workload, compute, dtype))
    alpha = {f"alpha.{number}": part.detach() for number, part in enumerate(search.alpha)}
    return search.weights.supernet.state_dict() | alpha


def _batch(workload: Workload, compute: Compute, dtype: torch.dtype) -> Batch:
    images, labels = next(synthetic_data(workload, compute).in_order(min(16, workload.batch_size)))
    return images.to(dtype), labels


def difference(expected: State, actual: State) -> float:
    """Return the largest ``||actual - expected|| / ||expected||`` of a floating-point tensor."""
    return max(
        ((actual[name].cpu().double() - value.double()).norm() / value.double().norm()).item()
        for name, value in expected.items()
        if value.is_floating_point() and value.norm() > 0
    )


@contextmanager
def _ieee() -> Iterator[None]:
    """Compute float32 as such on a GPU, not in TF32."""
    backends: list[Any] = [torch.backends.cuda.matmul, torch.backends.cudnn]
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    try:
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
