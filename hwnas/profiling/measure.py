"""From a device and a space to a latency model: measure, journal, fit.

The null model and every distinct block of the space are measured alone, then whole networks: some
spread evenly over the range of latencies (a search ends near its edges, where a correction learnt
from random networks of the middle fails), then those that lower the uncertainty most, until the
interval is narrow enough. With a limit of time it is another order: `hwnas.profiling.time_limited`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, file_sha256, reference_file
from hwnas.latency_models.cost import cost_table
from hwnas.latency_models.fitting.active_learning import median_half_width, select_networks
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import Entry, fit_entries, journal_outdated, read_journal
from hwnas.latency_models.storage.store import outdated, read_measured, set_aside, write_measured
from hwnas.profiling.bench import Bench, Job, Progress, Say, alone_job, block_keys, network_job
from hwnas.profiling.sampling import (
    POOL,
    TARGETS,
    distinct_blocks,
    spread_networks,
    target_networks,
)
from hwnas.profiling.time_limited import measure_until
from hwnas.spaces.space import SearchSpace

NETWORKS = 24
"""Whole networks, at most."""
FIRST = 12
"""Networks of the first design; those after it are chosen by the model."""
CHOSEN = 6
"""Networks that are chosen at a time."""
GOAL = 0.03
"""Relative half-width of the 90 % interval at which no further network is measured."""


def latency_model(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    say: Say,
    progress: Progress | None = None,
    networks: int | None = None,
    seed: int = 0,
    goal: float = GOAL,
    further: bool = False,
    profiled: int = 0,
    minutes: float | None = None,
    enough: float | None = None,
) -> LatencyModel:
    """Return the model kept in ``folder``, measuring what is missing: blocks alone and at most so
    many whole ``networks`` (`NETWORKS`; with ``minutes`` as many as there is time for).

    A model or journal made under other conditions is set aside, and ``say`` is told why. With
    ``further`` a model that is there is not enough: it is measured on until it has as many
    ``networks``, or an interval as narrow as ``goal``. The first ``profiled`` networks (chains, on
    this machine) are run by the runtime's profiler, too: what it says of their blocks is learnt.

    With ``minutes`` see `measure_until`. Blocks that were never timed are predicted then; a model
    of that kind is measured on where its interval is wider than ``enough`` (``None``: ``goal``).
    """
    now = runner.probe()
    reference = file_sha256(reference_file(profile.runtime))
    model = read_measured(folder)
    if model is not None:
        reason = outdated(model, now, reference)
        if reason is not None:
            say(f"the latency model of {profile.name} is refused: {reason}; measuring again")
            set_aside(folder)
        elif (lack := _lacking(model, space, seed)).width > (goal if enough is None else enough):
            say(f"the latency model of {profile.name} {lack.said}: measuring on")
        elif not further:
            if lack.width > goal:
                say(
                    f"the latency model of {profile.name} {lack.said}: it is taken as it is, "
                    f"`hwnas latency measure --target {profile.name}` goes on"
                )
            _tell_profiled(read_journal(folder), profiled, say)
            return model
    elif (reason := journal_outdated(read_journal(folder), now, reference)) is not None:
        say(f"the journal of {profile.name} is refused: {reason}; measuring again")
        set_aside(folder)
    bench = Bench(profile, runner, folder, progress, seed, reference)
    before = len(read_journal(folder))
    bench.profiled = profiled - _profiled(bench.entries())
    if minutes is None:
        entries = _measure_all(bench, space, NETWORKS if networks is None else networks, goal)
    else:
        entries = measure_until(bench, space, networks, goal, minutes, say)
    _tell_profiled(entries, profiled, say)
    if model is None or len(entries) > before:
        model = fit_entries(profile.name, entries)
        write_measured(model, folder)
    return model


def _profiled(entries: Sequence[Entry]) -> int:
    return sum(bool(one.shares) for one in entries)


def _tell_profiled(entries: Sequence[Entry], asked: int, say: Say) -> None:
    """Say where fewer networks than asked for were profiled."""
    if (found := _profiled(entries)) < asked:
        say(
            f"{found} of {asked} networks are profiled: those measured before are not run again, "
            "networks of cells and operators that cannot be told apart are left out"
        )


class _Lack(NamedTuple):
    """What a model says nothing of."""

    said: str
    width: float
    """Relative half-width of the 90 % interval of networks; 0 where all blocks were timed."""


def _lacking(model: LatencyModel, space: SearchSpace, seed: int) -> _Lack:
    """Say which blocks were never timed alone, and how sure networks are without."""
    blocks, timed = distinct_blocks(space), model.isolated_ms()
    missing = [one for one in blocks if one.key not in timed]
    if not missing:
        return _Lack("", 0.0)
    said = f"has no time of {len(missing)} of {len(blocks)} blocks"
    if kinds := model.unsupported(missing):
        return _Lack(f"{said}, e.g. of any {kinds[0]}", math.inf)
    width = median_half_width(model, target_networks(model, space, seed))
    return _Lack(f"{said} and is sure to +-{width:.1%}", width)


def _measure_all(bench: Bench, space: SearchSpace, networks: int, goal: float) -> list[Entry]:
    blocks = distinct_blocks(space)
    bench.planned = 1 + len(blocks) + networks
    null = Job((), False, ())
    entries = bench.measure([null, *map(alone_job, blocks)])
    alone = {e.keys[0]: e.measurement.ratio for e in entries if not e.network and e.keys}
    costs = cost_table(space, lambda block: alone[block.key], 0.0)
    first = spread_networks(space, costs, min(FIRST, networks), bench.seed)
    taken = [network_job(space.architecture(one)) for one in first]
    entries = bench.measure(taken)
    rng = Random(bench.seed)
    while len(taken) < networks:
        # from the first networks only: a run that was cut off chooses the same ones again
        seen = {job[0] for job in taken}
        model = fit_entries(
            bench.profile.name, [e for e in entries if not e.network or e.keys in seen], False
        )
        pool = [space.architecture(space.random(rng)) for _ in range(POOL)]
        targets = [space.architecture(one) for one in spread_networks(space, costs, TARGETS, 1)]
        if median_half_width(model, [one.blocks for one in targets]) <= goal:
            break
        count = min(CHOSEN, networks - len(taken))
        pool = [one for one in pool if block_keys(one) not in seen]
        order = select_networks(
            model, [one.blocks for one in pool], [one.blocks for one in targets], count
        )
        taken += [network_job(pool[number]) for number in order]
        entries = bench.measure(taken)
    return entries
