"""Times models in rounds: each next to the reference, in shuffled order, until it is steady.

A visit to a model is a burst of ``runs`` timed calls between two half-bursts of the reference. Of
four orders, this one had the smallest spread of ratios from round to round in three of four trials
(2 to 6 %; alternating call by call had 4 to 10 % and was biased by cold caches). Between fresh
processes the ratio repeats within 2 to 7 %, the plain median within 11 to 18 %
(tools/bench/measuring/orders.py).
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hwnas.devices.worker.model import BadModel, GpuModel, GpuRun
from hwnas.devices.worker.runtimes.open import open_model


class TimedModel:
    """An opened model and its rounds so far."""

    def __init__(
        self, name: str, path: str, runtime: str, request: dict[str, Any], batch: int = 1
    ) -> None:
        self.name, threads, seed = name, request["threads"], request["seed"]
        start = time.perf_counter_ns()
        self.model = open_model(path, runtime, threads, batch, request.get("gpu"))
        self.load_ms = _ms(time.perf_counter_ns() - start)
        noise = np.random.default_rng(seed).standard_normal(self.model.input_shape, np.float32)
        try:
            self.model.set_input(noise)
            start = time.perf_counter_ns()
            self.model.run()
            self.first_run_ms = _ms(time.perf_counter_ns() - start)
        except Exception as error:
            raise BadModel(path, error) from None
        if isinstance(self.model, GpuModel):
            self.model.check()
        self.rounds: list[tuple[list[float], list[float]]] = []

    def result(self) -> dict[str, Any]:
        """Return the fields of `hwnas.devices.runners.protocol.ModelResult`."""
        return {
            "name": self.name,
            "runtime_version": self.model.version,
            "load_ms": self.load_ms,
            "first_run_ms": self.first_run_ms,
            "rounds": [{"samples_ms": own, "reference_ms": ref} for own, ref in self.rounds],
            "on_gpu": self.model.gpu_execution() if isinstance(self.model, GpuModel) else None,
        }


def warm_up(models: list[TimedModel], spec: dict[str, Any]) -> None:
    """Run all models for ``warmup_runs`` calls and ``warmup_s`` seconds at least."""
    end, runs = time.monotonic() + spec["warmup_s"], 0
    while runs < spec["warmup_runs"] or time.monotonic() < end:
        for timed in models:
            timed.model.run()
        runs += 1


def take_rounds(
    reference: TimedModel,
    models: list[TimedModel],
    spec: dict[str, Any],
    seed: int,
    progress: Callable[[int, int], None],
) -> None:
    """Visit all models in shuffled rounds; those that are steady are skipped in later rounds."""
    shuffler, end, visits = random.Random(seed), time.monotonic() + spec["max_s"], 0
    unsteady = list(models)
    gc.collect()
    gc.disable()
    try:
        for rounds in range(1, spec["max_rounds"] + 1):
            shuffler.shuffle(unsteady)
            for timed in unsteady:
                timed.rounds.append(visit(timed.model.run, reference.model.run, spec["runs"]))
                visits += 1
                progress(visits, max(visits, len(models) * spec["min_rounds"]))
            if rounds >= spec["min_rounds"]:
                unsteady = [timed for timed in unsteady if not _is_steady(timed, spec["ci"])]
                if not unsteady or time.monotonic() > end:
                    break
    finally:
        gc.enable()


def visit(
    run: Callable[[], None], run_reference: Callable[[], None], runs: int
) -> tuple[list[float], list[float]]:
    """Return ``runs`` samples of a model and of the reference around it, in ms.

    The first call of each burst is not recorded, as the caches hold the other model's data.
    """
    run_reference()
    reference_ms = timed_ms(run_reference, runs // 2)
    run()
    samples_ms = timed_ms(run, runs)
    run_reference()
    return samples_ms, reference_ms + timed_ms(run_reference, runs - runs // 2)


def timed_ms(run: Callable[[], None], calls: int) -> list[float]:
    """Return the time of each call, by this machine's clock or by GPU events (`GpuRun`)."""
    if isinstance(run, GpuRun):
        return run.timed_ms(calls)
    clock, samples = time.perf_counter_ns, [0] * calls
    for call in range(calls):
        start = clock()
        run()
        samples[call] = clock() - start
    return [_ms(sample) for sample in samples]


def half_width(ratios: Sequence[float]) -> float:
    """Return half the 95 % interval of the median by order statistics, relative to the median."""
    ordered, outside, rank = sorted(ratios), 0.0, -1
    while rank + 1 < len(ordered) // 2:
        outside += 2 * math.comb(len(ordered), rank + 1) / 2 ** len(ordered)
        if outside > 0.05:
            break
        rank += 1
    rank = max(rank, 0)
    return (ordered[-1 - rank] - ordered[rank]) / 2 / statistics.median(ordered)


def _is_steady(timed: TimedModel, max_half_width: float) -> bool:
    ratios = [statistics.median(own) / statistics.median(ref) for own, ref in timed.rounds]
    return half_width(ratios) <= max_half_width


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 5)
