"""A latency model in so many minutes: what tells most for its time first, until time is up.

Measured on an Intel Xeon (`latency_host/results/limited_mobile.md`): where a network takes about
as long to measure as a block alone, some forty networks tell more unless all blocks can be timed;
where it takes several times as long, some blocks that cover the space, then either by its gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import median
from time import monotonic

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.block import FREE_OPS
from hwnas.latency_models.cost import cost_table
from hwnas.latency_models.features import unsupported
from hwnas.latency_models.fitting.active_learning import (
    median_half_width,
    select_initial_blocks,
    select_measurements,
)
from hwnas.latency_models.fitting.fit import MIN_NETWORKS
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import Entry, fit_entries
from hwnas.profiling.bench import Bench, Job, Say, alone_job, block_keys, network_job
from hwnas.profiling.sampling import POOL, distinct_blocks, spread_networks, target_networks
from hwnas.spaces.space import SearchSpace

SPREAD = 6
"""Networks of the first design, beside those that have a kind of block which none of them has."""
COVER = 6
"""Blocks that are timed first, at least, where a network takes long to measure."""
LONG = 2.0
"""That many times as long as a block."""
MANY = 40
"""Networks from which on blocks tell more, however long a network takes."""
STEP = 12
"""Blocks and networks that are chosen at a time."""
UNKNOWN = 2
"""Models that are measured at once while nothing says how long they take."""


def measure_until(
    bench: Bench,
    space: SearchSpace,
    networks: int | None,
    goal: float,
    minutes: float,
    say: Say,
) -> list[Entry]:
    """Measure until networks are sure to ``goal``, or nothing more can end within ``minutes``.

    The null model and a first design of networks are measured however short the time (blocks, where
    ``networks`` allows too few of them). ``say`` is told when time is up.
    """
    pace = _Pace(bench, minutes)
    blocks, rng = distinct_blocks(space), Random(bench.seed)
    first = [Job((), False, ())]
    if len(bench.entries()) < 1 + MIN_NETWORKS:
        nets = first_networks(space, blocks, bench.seed)[:networks]
        few = len(nets) < MIN_NETWORKS
        cover = [blocks[place] for place in select_initial_blocks(blocks, COVER)] if few else []
        first += [*map(alone_job, cover), *map(network_job, nets)]
    entries = pace.measure(first)
    while True:
        model = fit_entries(bench.profile.name, entries, False)
        targets = target_networks(model, space, bench.seed)
        width = median_half_width(model, targets)
        timed = {one.keys[0] for one in entries if not one.network and one.keys}
        whole = {one.keys for one in entries if one.network}
        alone = [one for one in blocks if one.key not in timed]
        pool = [space.architecture(space.random(rng)) for _ in range(POOL)]
        pool = [one for one in pool if block_keys(one) not in whole]
        if networks is not None and len(whole) >= networks:
            pool = []
        if width <= goal or not (alone or pool):
            return entries
        candidates = [*map(alone_job, alone), *map(network_job, pool)]
        nets, seconds = [one.blocks for one in pool], pace.seconds(model, candidates)
        wanted = [*targets, *nets[: len(targets)]]
        places = next_step(model, alone, nets, wanted, seconds, pace.left_s, bool(timed))
        jobs = [candidates[place] for place in places]
        if networks is not None:
            jobs = _at_most(jobs, networks - len(whole))
        if not (jobs := pace.fitting(model, jobs)):
            say(
                f"time is up: {len(timed)} of {len(blocks)} blocks and {len(whole)} networks are "
                f"measured, networks are sure to +-{width:.1%} (goal {goal:.1%})"
            )
            return entries
        entries = pace.measure(jobs)


def first_networks(space: SearchSpace, blocks: Sequence[Block], seed: int) -> list[Architecture]:
    """Return networks spread over the multiply-accumulates, which have every kind of block."""
    macs = cost_table(space, lambda one: 0.0 if one.op in FREE_OPS else float(one.macs), 1.0)
    chosen = [space.architecture(one) for one in spread_networks(space, macs, SPREAD, seed)]
    rng = Random(seed)
    pool = [space.architecture(space.random(rng)) for _ in range(POOL)]
    while True:
        known = [block for one in chosen for block in one.blocks]
        missing = set(unsupported(blocks, known))
        if not missing:
            return chosen
        best = max(pool, key=lambda one: len(missing.intersection(unsupported(one.blocks, known))))
        if not missing.intersection(unsupported(best.blocks, known)):
            return chosen
        chosen.append(best)


def next_step(
    model: LatencyModel,
    alone: Sequence[Block],
    pool: Sequence[Sequence[Block]],
    targets: Sequence[Sequence[Block]],
    seconds: Sequence[float],
    left_s: float,
    timed: bool,
) -> list[int]:
    """Return what to measure in the next step, best first: places in ``[*alone, *pool]``.

    All blocks ``alone`` where there is time for them. While none is ``timed``, some that cover
    them, where networks take long or are many already, and there is time for all of those. Without,
    only networks can be chosen (a model of networks alone supposes all of a block's deviation to be
    inside them). ``seconds``: of each; 0: not known.
    """
    blocks_s, networks_s = seconds[: len(alone)], seconds[len(alone) :]
    if alone and 0 < sum(blocks_s) <= left_s:
        return list(range(len(alone)))
    if alone and not timed:
        long = not pool or median(networks_s) > LONG * median(blocks_s)
        cover = select_initial_blocks(alone, COVER) if long or len(model.networks) >= MANY else []
        if cover and sum(seconds[place] for place in cover) <= left_s:
            return cover
        if not pool:
            return []
    return select_measurements(model, alone, pool, targets, STEP, seconds if any(seconds) else None)


def _at_most(jobs: Sequence[Job], networks: int) -> list[Job]:
    """Return the jobs without those networks that are more than ``networks``."""
    beyond = [job for job in jobs if job.network][networks:]
    return [job for job in jobs if job not in beyond]


class _Pace:
    """Measures until time is up, and knows how long a model takes: so much for itself, and calls.

    Both are those of the last batch; 0 while nothing was measured.
    """

    def __init__(self, bench: Bench, minutes: float) -> None:
        self.bench, self.end_s = bench, monotonic() + 60 * minutes
        self.model_s, self.calls = 0.0, 0.0

    @property
    def left_s(self) -> float:
        return self.end_s - monotonic()

    def seconds(self, model: LatencyModel, jobs: Sequence[Job]) -> list[float]:
        """Return how long the jobs will take, by their predicted latency."""
        if not jobs:
            return []
        ms = model.predict([job.blocks for job in jobs]).mean_ms
        return [self.model_s + self.calls * one / 1000 for one in ms.tolist()]

    def fitting(self, model: LatencyModel, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs for which there is time, the first ones first."""
        left_s, taken = self.left_s, list[Job]()
        for job, job_s in zip(jobs, self.seconds(model, jobs), strict=True):
            if left_s > 0 and job_s <= left_s and (job_s > 0 or len(taken) < UNKNOWN):
                left_s -= job_s
                taken.append(job)
        return taken

    def measure(self, jobs: Sequence[Job]) -> list[Entry]:
        bench, start_s = self.bench, monotonic()
        before = len(bench.entries())
        bench.planned = before + len(jobs)
        entries = bench.measure(jobs)
        if new := [one.measurement for one in entries[before:]]:
            calls_s = sum(sum(one.samples_ms) for found in new for one in found.rounds) / 1000
            self.model_s = max(0.0, monotonic() - start_s - calls_s) / len(new)
            self.calls = 1000 * calls_s / sum(found.median_ms for found in new)
        return entries
