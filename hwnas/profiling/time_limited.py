"""Measuring a latency model within a time limit: the most informative models first.

On an Intel Xeon (`tools/evaluate/latency_host/results/limited_mobile.md`): where a network takes
about as long to measure as an isolated block, some forty networks are more informative, unless all
blocks can be timed; where it takes several times as long, some blocks that cover the space come
first, then blocks or networks by their gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from statistics import median
from time import monotonic
from typing import NamedTuple

from hwnas.architecture.architecture import Architecture, Block
from hwnas.console import Console
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
from hwnas.profiling.bench import (
    NULL_JOB,
    Bench,
    ModelJob,
    block_keys,
    isolated_job,
    network_job,
)
from hwnas.profiling.plan import MeasurePlan
from hwnas.profiling.sampling import (
    POOL_SIZE,
    distinct_blocks,
    random_networks,
    spread_networks,
    target_networks,
)
from hwnas.spaces.space import SearchSpace

INITIAL_NETWORKS = 6
"""Networks of the initial design, beside those added for kinds of blocks that it lacks."""
INITIAL_BLOCKS = 6
"""Minimum number of blocks that are timed first, where networks are slow to measure."""
SLOW_NETWORK_RATIO = 2.0
"""Networks are slow to measure if they take this many times as long as a block."""
MAX_NETWORKS_BEFORE_BLOCKS = 40
"""Number of networks from which blocks are more informative, even if networks are fast to
measure."""
MODELS_PER_ROUND = 12
"""Blocks and networks that are selected at a time."""
MODELS_OF_UNKNOWN_TIME = 2
"""Models in a batch while the time that they take is unknown."""


def measure_within(
    bench: Bench, space: SearchSpace, plan: MeasurePlan, console: Console
) -> list[Entry]:
    """Measure until networks are predicted within ``plan.goal``, or ``plan.minutes`` are over.

    The null model and an initial design of networks are measured however short the time (blocks,
    where ``plan.networks`` allows too few networks). Returns the whole journal.
    """
    stopwatch = _Stopwatch(bench, plan.minutes or 0.0)
    blocks, rng = distinct_blocks(space), Random(bench.seed)
    limit = plan.networks
    entries = stopwatch.measure(_initial_jobs(bench, space, blocks, limit))
    while True:
        model = fit_entries(bench.profile.name, entries, validate=False)
        targets = target_networks(model, space, bench.seed)
        half_width = median_half_width(model, targets)
        timed = {entry.keys[0] for entry in entries if not entry.network and entry.keys}
        measured = {entry.keys for entry in entries if entry.network}
        untimed = [block for block in blocks if block.key not in timed]
        pool = random_networks(space, rng, measured)
        if limit is not None and len(measured) >= limit:
            pool = []
        if half_width <= plan.goal or not (untimed or pool):
            return entries
        jobs = [*map(isolated_job, untimed), *map(network_job, pool)]
        networks, seconds = [network.blocks for network in pool], stopwatch.expected_s(model, jobs)
        candidates = Candidates(untimed, networks, seconds)
        goals = [*targets, *networks[: len(targets)]]
        places = select_round(model, candidates, goals, stopwatch.left_s, bool(timed))
        chosen = [jobs[place] for place in places]
        if limit is not None:
            chosen = _at_most(chosen, limit - len(measured))
        if not (chosen := stopwatch.affordable(model, chosen)):
            console.say(
                f"time is up: {len(timed)} of {len(blocks)} blocks and {len(measured)} networks "
                f"are measured, networks are predicted within ±{half_width:.1%} "
                f"(goal ±{plan.goal:.1%})"
            )
            return entries
        entries = stopwatch.measure(chosen)


def _initial_jobs(
    bench: Bench, space: SearchSpace, blocks: Sequence[Block], limit: int | None
) -> list[ModelJob]:
    if len(bench.entries()) >= 1 + MIN_NETWORKS:
        return [NULL_JOB]
    networks = initial_networks(space, blocks, bench.seed)[:limit]
    cover: list[Block] = []
    if len(networks) < MIN_NETWORKS:
        cover = [blocks[place] for place in select_initial_blocks(blocks, INITIAL_BLOCKS)]
    return [NULL_JOB, *map(isolated_job, cover), *map(network_job, networks)]


def initial_networks(space: SearchSpace, blocks: Sequence[Block], seed: int) -> list[Architecture]:
    """Return distinct networks that are spread over the MACs and have every kind of block."""
    macs = cost_table(space, _macs, 1.0)
    genotypes = spread_networks(space, macs, INITIAL_NETWORKS, seed)
    spread = [space.architecture(genotype) for genotype in genotypes]
    chosen = list({block_keys(network): network for network in spread}.values())
    rng = Random(seed)
    pool = [space.architecture(space.random(rng)) for _ in range(POOL_SIZE)]
    while True:
        known = [block for network in chosen for block in network.blocks]
        missing = set(unsupported(blocks, known))
        gains = [len(missing.intersection(unsupported(net.blocks, known))) for net in pool]
        if not max(gains):
            return chosen
        chosen.append(pool[gains.index(max(gains))])


def _macs(block: Block) -> float:
    return 0.0 if block.is_free else float(block.macs)


class Candidates(NamedTuple):
    """Isolated blocks and networks to select from, and the time to measure each."""

    blocks: Sequence[Block]
    networks: Sequence[Sequence[Block]]
    seconds: Sequence[float]
    """Of ``[*blocks, *networks]``; 0: unknown."""


def select_round(
    model: LatencyModel,
    candidates: Candidates,
    targets: Sequence[Sequence[Block]],
    left_s: float,
    has_timed: bool,
) -> list[int]:
    """Return what to measure in the next round, best first: places in ``[*blocks, *networks]``.

    All blocks, if there is time for them. While no block was timed (not ``has_timed``): some blocks
    that cover all of them, where networks are slow to measure or were many, and there is time for
    all of these; else networks only (a model of networks alone attributes all of a block's
    deviation to networks, so single blocks have no gain). Then either kind by its gain.
    """
    blocks, networks, seconds = candidates
    blocks_s, networks_s = seconds[: len(blocks)], seconds[len(blocks) :]
    if blocks and 0 < sum(blocks_s) <= left_s:
        return list(range(len(blocks)))
    if blocks and not has_timed:
        slow = not networks or median(networks_s) > SLOW_NETWORK_RATIO * median(blocks_s)
        cover: list[int] = []
        if slow or len(model.networks) >= MAX_NETWORKS_BEFORE_BLOCKS:
            cover = select_initial_blocks(blocks, INITIAL_BLOCKS)
        if cover and sum(seconds[place] for place in cover) <= left_s:
            return cover
        if not networks:
            return []
    known_s = seconds if any(seconds) else None
    return select_measurements(model, blocks, networks, targets, MODELS_PER_ROUND, known_s)


def _at_most(jobs: Sequence[ModelJob], networks: int) -> list[ModelJob]:
    """Return the jobs with the first ``networks`` networks only."""
    excess = [job for job in jobs if job.network][networks:]
    return [job for job in jobs if job not in excess]


class _Stopwatch:
    """Measures until time is up, and estimates how long a model takes from the last batch.

    The time of a model is a constant part (export, transfer, start) and that of its calls.
    """

    def __init__(self, bench: Bench, minutes: float) -> None:
        self.bench, self.end_s = bench, monotonic() + 60 * minutes
        self.model_s, self.calls = 0.0, 0.0
        """Constant part of a model's time, and its number of calls; 0 before anything was
        measured."""

    @property
    def left_s(self) -> float:
        return self.end_s - monotonic()

    def expected_s(self, model: LatencyModel, jobs: Sequence[ModelJob]) -> list[float]:
        """Return how long each job will take, by its predicted latency."""
        if not jobs:
            return []
        predicted_ms = model.predict([job.blocks for job in jobs]).mean_ms.tolist()
        return [self.model_s + self.calls * ms / 1000 for ms in predicted_ms]

    def affordable(self, model: LatencyModel, jobs: Sequence[ModelJob]) -> list[ModelJob]:
        """Return the jobs for which there is time, in their order."""
        left_s, chosen = self.left_s, list[ModelJob]()
        for job, job_s in zip(jobs, self.expected_s(model, jobs), strict=True):
            is_known = job_s > 0 or len(chosen) < MODELS_OF_UNKNOWN_TIME
            if left_s > 0 and job_s <= left_s and is_known:
                left_s -= job_s
                chosen.append(job)
        return chosen

    def measure(self, jobs: Sequence[ModelJob]) -> list[Entry]:
        bench, start_s = self.bench, monotonic()
        before = len(bench.entries())
        bench.planned = before + len(jobs)
        entries = bench.measure(jobs)
        if new := [entry.measurement for entry in entries[before:]]:
            rounds = [round for measurement in new for round in measurement.rounds]
            calls_s = sum(sum(round.samples_ms) for round in rounds) / 1000
            self.model_s = max(0.0, monotonic() - start_s - calls_s) / len(new)
            self.calls = 1000 * calls_s / sum(measurement.median_ms for measurement in new)
        return entries
