"""Splits a measurement over fresh processes, each with the models regrouped."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from random import Random

import msgspec

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.profile import MeasureSpec
from hwnas.devices.runner import Progress

TOGETHER = 16
"""Most models that are open at once and measured interleaved."""
MODELS: dict[RuntimeName, int] = {"onnxruntime": 4 * TOGETHER}
"""Most models that a worker process measures, `TOGETHER` where no number is given. The start and
the warm-up take as long as some forty small models do, but only with ONNX Runtime latencies repeat
as well in later batches of a process (``tools.bench.measuring.processes``)."""


def models_per_process(runtimes: Iterable[RuntimeName]) -> int:
    """Return the most models that a worker process measures, some of them in each runtime."""
    return min(MODELS.get(runtime, TOGETHER) for runtime in runtimes)


def per_process_spec(spec: MeasureSpec) -> MeasureSpec:
    """Return the settings of each process: its share of the rounds and of the time."""
    return msgspec.structs.replace(
        spec,
        min_rounds=ceil(spec.min_rounds / spec.processes),
        max_rounds=ceil(spec.max_rounds / spec.processes),
        max_s=spec.max_s / spec.processes,
    )


def assign_batches(count: int, processes: int, most: int, seed: int) -> list[tuple[int, list[int]]]:
    """Return the worker processes as ``(number, indices of models)``: all models once for each of
    the ``processes`` numbers.

    A worker process has at most ``most`` models. They are shuffled anew for each number, so that a
    model meets different neighbours.
    """
    shuffler = Random(seed)
    plan: list[tuple[int, list[int]]] = []
    for process in range(processes):
        places = list(range(count))
        shuffler.shuffle(places)
        plan += [(process, places[at : at + most]) for at in range(0, count, most)]
    return plan


def scaled_progress(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Return a callback that turns the progress of one process into that of all."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, parts * total)
