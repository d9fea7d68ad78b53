"""Measuring the latency model of a device for a search space: measure, journal, fit.

The null model and every distinct block of the space are measured in isolation, then whole networks:
some spread evenly over the range of latencies (a search ends near its edges, where a correction
learnt from random networks of the middle fails), then those that lower the uncertainty most, until
the interval is narrow enough. With a time limit the order differs: see `profiling.time_limited`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from hwnas.console import Console
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, reference_sha256
from hwnas.errors import UsageError
from hwnas.files import lock_folder
from hwnas.latency_models.cost import cost_table
from hwnas.latency_models.fitting.active_learning import median_half_width, select_networks
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import Entry, fit_entries, journal_outdated, read_journal
from hwnas.latency_models.storage.store import outdated, read_measured, set_aside, write_measured
from hwnas.profiling.bench import NULL_JOB, Bench, isolated_job, network_job
from hwnas.profiling.plan import MeasurePlan
from hwnas.profiling.sampling import (
    NUM_TARGETS,
    distinct_blocks,
    random_networks,
    spread_networks,
    target_networks,
)
from hwnas.profiling.time_limited import measure_within
from hwnas.recovery import recover
from hwnas.spaces.int8 import precision_of
from hwnas.spaces.space import SearchSpace

DEFAULT_NETWORKS = 24
"""Maximum number of whole networks, without a time limit."""
INITIAL_NETWORKS = 12
"""Networks of the initial design; the model selects those after them."""
NETWORKS_PER_ROUND = 6
"""Networks that the model selects at a time."""


def measure_latency_model(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    console: Console,
    *,
    plan: MeasurePlan | None = None,
) -> LatencyModel:
    """Return the latency model in ``folder``, after measuring what it lacks.

    A model or journal made under other conditions is set aside, and ``console`` shows why. A model
    with blocks that were never timed (from a time limit) is completed, unless its interval is
    narrow enough, see ``plan.accepted``. The folder is locked, and damaged files in it are repaired
    (`hwnas.recovery`). Raises `UsageError` where ``plan`` demands a profiler and the device has
    none, or if another process has locked the folder.
    """
    plan = plan or MeasurePlan()
    if plan.profiled:
        _check_profiler(profile, space)
    if folder.exists() and not os.access(folder, os.W_OK):  # a model that others made
        return _measured(profile, runner, space, folder, console, plan)
    with lock_folder(folder):
        recover(folder, console.say)
        return _measured(profile, runner, space, folder, console, plan)


def _measured(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    console: Console,
    plan: MeasurePlan,
) -> LatencyModel:
    if plan.again:
        set_aside(folder)
    model = _usable_model(profile, runner, folder, console)
    if model is not None:
        gap = _find_gap(model, space, plan.seed)
        if gap.half_width <= (plan.goal if plan.accepted is None else plan.accepted):
            if gap.half_width > plan.goal:
                console.say(
                    f"the latency model of {profile.name} {gap.description}; it is used as it is, "
                    f"`hwnas latency measure --target {profile.name}`, with the same space and "
                    "data, continues measuring"
                )
            _report_profiles(read_journal(folder), plan.profiled, console)
            return model
        console.say(f"the latency model of {profile.name} {gap.description}: measuring continues")
    before = len(read_journal(folder))
    with console.step(f"latency model of {profile.name}") as update:
        bench = Bench(profile, runner, folder, seed=plan.seed, progress=update)
        bench.profiles_left = plan.profiled - _count_profiled(bench.entries())
        if plan.minutes is None:
            entries = _measure_all(bench, space, plan)
        else:
            entries = measure_within(bench, space, plan, console)
    _report_profiles(entries, plan.profiled, console)
    if model is None or len(entries) > before:
        model = fit_entries(profile.name, entries)
        write_measured(model, folder)
    return model


def _check_profiler(profile: DeviceProfile, space: SearchSpace) -> None:
    """Raise `UsageError` unless the runtime's profiler can time blocks of the space's networks."""
    where = "a GPU" if profile.gpu else profile.runner or profile.transport
    precision = precision_of(space)
    if where != "local" or precision != "fp32":
        raise UsageError(
            "the runtime's profiler times fp32 networks on this machine's processor only, "
            f"{profile.name} is {where} and the networks are {precision}"
        )


def _usable_model(
    profile: DeviceProfile, runner: Runner, folder: Path, console: Console
) -> LatencyModel | None:
    """Return the model in ``folder``; a model or journal of other conditions is set aside."""
    now, reference = runner.probe(), reference_sha256(profile.runtime)
    model = read_measured(folder)
    if model is None:
        what, reason = "journal", journal_outdated(read_journal(folder), now, reference)
    else:
        what, reason = "latency model", outdated(model, now, reference)
    if reason is None:
        return model
    console.say(f"the {what} of {profile.name} is refused: {reason}; measuring again")
    set_aside(folder)
    return None


class _Gap(NamedTuple):
    """The measurements that a model lacks for a space."""

    description: str
    half_width: float
    """Relative, of the 90 % interval of networks; 0 where all blocks were timed."""


def _find_gap(model: LatencyModel, space: SearchSpace, seed: int) -> _Gap:
    """Return which blocks were never timed in isolation, and how precise predictions are."""
    blocks, timed = distinct_blocks(space), model.isolated_ms()
    missing = [block for block in blocks if block not in timed]
    if not missing:
        return _Gap("", 0.0)
    description = f"lacks times of {len(missing)} of {len(blocks)} blocks"
    if kinds := model.unsupported(missing):
        return _Gap(f"{description}, e.g. of any {kinds[0]}", math.inf)
    half_width = median_half_width(model, target_networks(model, space, seed))
    return _Gap(f"{description}, networks are predicted within ±{half_width:.1%}", half_width)


def _count_profiled(entries: Sequence[Entry]) -> int:
    return sum(bool(entry.shares) for entry in entries)


def _report_profiles(entries: Sequence[Entry], requested: int, console: Console) -> None:
    if note := missing_profiles(entries, requested):
        console.say(note)


def missing_profiles(entries: Sequence[Entry], requested: int) -> str | None:
    """Return a note if fewer networks than requested were profiled."""
    profiled = _count_profiled(entries)
    if profiled >= requested:
        return None
    return (
        f"{profiled} of {requested} networks are profiled: networks measured earlier are not run "
        "again, and a profiler can't time networks of cells or operators that match no block"
    )


def _measure_all(bench: Bench, space: SearchSpace, plan: MeasurePlan) -> list[Entry]:
    """Measure all blocks, then networks until the interval is as narrow as ``plan.goal``."""
    blocks = distinct_blocks(space)
    limit = DEFAULT_NETWORKS if plan.networks is None else plan.networks
    bench.planned = 1 + len(blocks) + limit
    entries = bench.measure([NULL_JOB, *map(isolated_job, blocks)])
    isolated = {e.keys[0]: e.measurement.ratio for e in entries if not e.network and e.keys}
    costs = cost_table(space, lambda block: isolated[block.key], 0.0)
    initial = spread_networks(space, costs, min(INITIAL_NETWORKS, limit), bench.seed)
    jobs = [network_job(space.architecture(genotype)) for genotype in initial]
    entries = bench.measure(jobs)
    rng = Random(bench.seed)
    while len(jobs) < limit:
        # from the jobs so far only: an interrupted run selects the same networks again
        chosen = {job.keys for job in jobs}
        known = [entry for entry in entries if not entry.network or entry.keys in chosen]
        model = fit_entries(bench.profile.name, known, validate=False)
        pool = random_networks(space, rng, chosen)
        targets = [
            space.architecture(genotype).blocks
            for genotype in spread_networks(space, costs, NUM_TARGETS, seed=1)
        ]
        # without a pool it is a small space, of resolutions alone for example
        if not pool or median_half_width(model, targets) <= plan.goal:
            break
        count = min(NETWORKS_PER_ROUND, limit - len(jobs))
        order = select_networks(model, [network.blocks for network in pool], targets, count)
        jobs += [network_job(pool[number]) for number in order]
        entries = bench.measure(jobs)
    return entries
