"""Times models in rounds: each next to the reference, in shuffled order, until it is steady.

Only rounds with undisturbed calls of both (`samples.Samples`) count towards steadiness, so a
measurement beside other programs takes more rounds, up to ``max_s``. It gives up if hardly any
round is undisturbed.

A visit to a model is a burst of ``runs`` timed calls between two half-bursts of the reference. Of
four orders, this one had the smallest spread of ratios from round to round in three of four trials
(2 to 6 %; alternating call by call had 4 to 10 % and was biased by cold caches). Between fresh
processes the ratio repeats within 2 to 7 %, the plain median within 11 to 18 %
(tools/bench/measuring/orders.py).
"""

from __future__ import annotations

import gc
import itertools
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from hwnas.devices.worker.model import BadModel, GpuModel, input_shapes, noise
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.devices.worker.samples import Samples, Timer

LARGER_FROM = 3.0
"""Ratio to a reference's latency above which a model is timed beside a larger reference."""
PROBE_FROM = 10.0
"""Ratio to the largest reference's latency above which the memory probe is timed, too."""
PROBE_CALLS = 2
"""Timed calls of the memory probe in a visit."""
HOPELESS_ROUNDS = 3
"""Multiple of ``min_rounds`` after which a model with hardly an undisturbed round is given up."""
HOPELESS_SHARE = 0.1
"""Share of rounds that must be undisturbed by then."""


class Visit:
    """One round of a model, and of the reference next to it."""

    def __init__(
        self, own: Samples, reference: Samples, number: int = 0, base: Samples | None = None
    ) -> None:
        self.own, self.reference, self.number = own, reference, number
        self.base = base or Samples()
        """The smallest reference, where `reference` is a larger one."""
        self.probe = Samples()
        """The memory probe, if it was timed."""
        self.reference_name = ""

    def ratio(self, threads: int) -> float | None:
        """Return the median of undisturbed calls over the reference's; ``None`` without any."""
        own, reference = (part.undisturbed_ms(threads) for part in (self.own, self.reference))
        return statistics.median(own) / statistics.median(reference) if own and reference else None

    def round(self) -> dict[str, Any]:
        """Return the fields of `hwnas.measurement.round.Round`."""
        return {
            "number": self.number,
            "samples_ms": self.own.wall_ms,
            "reference_ms": self.reference.wall_ms,
            "usage": self.own.usage(),
            "reference_usage": self.reference.usage(),
            "reference": self.reference_name,
            "base_ms": self.base.wall_ms,
            "base_usage": self.base.usage(),
            "probe_ms": self.probe.wall_ms,
            "probe_usage": self.probe.usage(),
        }


class TimedModel:
    """An opened model and its rounds so far."""

    def __init__(self, model: dict[str, Any], runtime: str, request: dict[str, Any]) -> None:
        path, threads, seed = model["path"], request["threads"], request["seed"]
        self.name = model["name"]
        start = time.perf_counter_ns()
        self.model = open_model(path, runtime, threads, request.get("gpu"))
        self.load_ms = _ms(time.perf_counter_ns() - start)
        self.shapes = input_shapes(
            path, self.model.inputs, model.get("batch"), model.get("shapes") or ()
        )
        try:
            self.model.set_inputs(noise(self.model.inputs, self.shapes, seed))
            start = time.perf_counter_ns()
            self.model.run()
            self.first_run_ms = _ms(time.perf_counter_ns() - start)
        except Exception as error:
            raise BadModel(path, error) from None
        if isinstance(self.model, GpuModel):
            self.model.check()
        self.rounds: list[Visit] = []
        self.beside: TimedModel | None = None
        """A larger reference of about this model's latency, if it is slow."""
        self.probe: TimedModel | None = None
        """The memory probe, if this model is much slower than any reference."""

    def result(self) -> dict[str, Any]:
        """Return the fields of `hwnas.devices.runners.protocol.ModelResult`."""
        return {
            "name": self.name,
            "batch": self.shapes[0][0] if self.shapes and self.shapes[0] else 1,
            "inputs": [
                {"name": tensor.name, "shape": shape}
                for tensor, shape in zip(self.model.inputs, self.shapes, strict=True)
            ],
            "runtime_version": self.model.version,
            "load_ms": self.load_ms,
            "first_run_ms": self.first_run_ms,
            "rounds": [visit.round() for visit in self.rounds],
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
    timer, unsteady = Timer(spec["threads"]), list(models)
    gc.collect()
    gc.disable()
    try:
        for number in itertools.count(1):
            shuffler.shuffle(unsteady)
            for timed in unsteady:
                timed.rounds.append(take_visit(timed, reference, spec["runs"], timer, number))
                visits += 1
                progress(visits, max(visits, len(models) * spec["min_rounds"]))
            if number >= spec["min_rounds"]:
                unsteady = [timed for timed in unsteady if not is_done(timed.rounds, spec)]
                if not unsteady or time.monotonic() > end:
                    break
    finally:
        gc.enable()


def take_visit(timed: TimedModel, base: TimedModel, runs: int, timer: Timer, number: int) -> Visit:
    """Visit a model beside its reference; beside a larger one ``base`` is timed, too, and the
    memory probe where the model has it."""
    beside = timed.beside or base
    taken = Visit(*visit(timed.model.run, beside.model.run, runs, timer), number)
    if beside is not base:
        taken.reference_name = beside.name
        base.model.run()
        timer.add(taken.base, base.model.run, runs)
    if timed.probe:
        timed.probe.model.run()
        timer.add(taken.probe, timed.probe.model.run, PROBE_CALLS)
    return taken


def choose_references(
    models: Sequence[TimedModel], base: TimedModel, request: dict[str, Any]
) -> list[TimedModel]:
    """Give each model that is much slower than a reference the next larger one, and the memory
    probe to those that are much slower than the largest.

    The request's larger references (the smallest first) and its probe are opened only for such
    models. Returns those that were opened.
    """
    own_ms = {id(model): warm_ms(model) for model in models}
    slower, reference, opened = list(models), base, list[TimedModel]()
    for path in request.get("references", ()):
        least_ms = LARGER_FROM * warm_ms(reference)
        slower = [model for model in slower if own_ms[id(model)] > least_ms]
        if not slower:
            break
        reference = _open_beside(path, request)
        opened.append(reference)
        for model in slower:
            model.beside = reference
    least_ms = PROBE_FROM * warm_ms(reference)
    slower = [model for model in slower if own_ms[id(model)] > least_ms]
    if slower and request.get("probe"):
        probe = _open_beside(request["probe"], request)
        opened.append(probe)
        for model in slower:
            model.probe = probe
    return opened


def _open_beside(path: str, request: dict[str, Any]) -> TimedModel:
    return TimedModel({"name": os.path.basename(path), "path": path}, request["runtime"], request)


def warm_ms(timed: TimedModel) -> float:
    """Return an estimate of the latency of a warm model: the fastest of a few calls."""
    times_ns: list[int] = []
    for _ in range(3):
        start = time.perf_counter_ns()
        timed.model.run()
        times_ns.append(time.perf_counter_ns() - start)
    return max(min(times_ns), 1) / 1e6


def visit(
    run: Callable[[], None], run_reference: Callable[[], None], runs: int, timer: Timer
) -> tuple[Samples, Samples]:
    """Time ``runs`` calls of a model and of the reference around it.

    The first call of each burst is not recorded, as the caches hold the other model's data.
    """
    own, reference = Samples(), Samples()
    run_reference()
    timer.add(reference, run_reference, runs // 2)
    run()
    timer.add(own, run, runs)
    run_reference()
    timer.add(reference, run_reference, runs - runs // 2)
    return own, reference


def is_done(rounds: Sequence[Visit], spec: dict[str, Any]) -> bool:
    """Return whether a model needs no more rounds: it is steady, has the most rounds, or is
    hopeless."""
    least, threads = spec["min_rounds"], spec["threads"]
    ratios = [ratio for visit in rounds if (ratio := visit.ratio(threads)) is not None]
    if len(ratios) >= least:
        return len(ratios) >= spec["max_rounds"] or half_width(ratios) <= spec["ci"]
    few = len(ratios) < HOPELESS_SHARE * len(rounds)
    return few and len(rounds) >= HOPELESS_ROUNDS * least


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


def _ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 5)
