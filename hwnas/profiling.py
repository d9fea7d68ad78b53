"""From a device and a space to a latency model: export, measure, journal, fit.

The null model and every distinct block of the space are measured alone, then whole networks: some
spread evenly over the range of latencies (a search ends near its edges, where a correction learnt
from random networks of the middle fails), then those that lower the uncertainty most, until the
interval is narrow enough. Each batch of measurements is written to a journal before the next
begins, so nothing measured is lost and a run that was cut off goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture import Architecture, Block, Genotype
from hwnas.artifact import Format
from hwnas.block import FREE_OPS
from hwnas.block_times import block_shares
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, file_sha256, reference_file
from hwnas.export.compile import compile_model
from hwnas.files import append_line
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.latency_models.journal import (
    JOURNAL,
    Entry,
    fit_entries,
    journal_outdated,
    read_journal,
)
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.plan import half_width, next_networks
from hwnas.latency_models.store import outdated, read_measured, set_aside, write_measured
from hwnas.nn.build import untrained
from hwnas.search.derive import window_samples
from hwnas.spaces.grown import GrownSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace

NETWORKS = 24
"""Whole networks, at most."""
FIRST = 12
"""Networks of the first design; those after it are chosen by the model."""
CHOSEN = 6
"""Networks that are chosen at a time."""
POOL = 200
GOAL = 0.03
"""Relative half-width of the 90 % interval at which no further network is measured."""
BATCH = 64
"""Models that are measured before they are written to the journal."""

FORMATS: dict[str, Format] = {"onnxruntime": "onnx", "litert": "tflite"}

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with measured and planned models."""


class Job(NamedTuple):
    """A model to be measured; without blocks it is the null model."""

    keys: tuple[str, ...]
    network: bool
    blocks: tuple[Block, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    """Wiring, as in `Architecture`."""


def latency_model(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    say: Say,
    progress: Progress | None = None,
    networks: int = NETWORKS,
    seed: int = 0,
    goal: float = GOAL,
    further: bool = False,
    profiled: int = 0,
) -> LatencyModel:
    """Return the model kept in ``folder``, measuring what is missing.

    A model or journal made under other conditions is set aside, and ``say`` is told why. With
    ``further`` a model that is there is not enough: it is measured on until it has as many
    ``networks``, or an interval as narrow as ``goal``. The first ``profiled`` networks (chains, on
    this machine) are run by the runtime's profiler, too: what it says of their blocks is learnt.
    """
    now = runner.probe()
    reference = file_sha256(reference_file(profile.runtime))
    model = read_measured(folder)
    if model is not None:
        reason = outdated(model, now, reference)
        if reason is not None:
            say(f"the latency model of {profile.name} is refused: {reason}; measuring again")
            set_aside(folder)
        elif missing := [one.key for one in distinct_blocks(space) if one.key not in model.rows_ms]:
            say(f"the latency model of {profile.name} lacks {len(missing)} blocks: measuring them")
        elif not further:
            _tell_profiled(read_journal(folder), profiled, say)
            return model
    elif (reason := journal_outdated(read_journal(folder), now, reference)) is not None:
        say(f"the journal of {profile.name} is refused: {reason}; measuring again")
        set_aside(folder)
    bench = Bench(profile, runner, folder, progress, seed, reference)
    before = len(read_journal(folder))
    bench.profiled = profiled - _profiled(bench.entries())
    entries = _measure_all(bench, space, networks, goal)
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


def block_keys(architecture: Architecture) -> tuple[str, ...]:
    """Return the keys of the blocks that compute something, in order."""
    return tuple(block.key for block in architecture.blocks if block.op not in FREE_OPS)


def distinct_blocks(space: SearchSpace) -> list[Block]:
    """Return every block that a network of ``space`` may have, each once."""
    blocks = [
        *space.fixed,
        *(site.block for site in space.sites() if site.block.op not in FREE_OPS),
    ]
    return list({block.key: block for block in blocks}.values())


def spread_networks(space: SearchSpace, costs: CostTable, count: int, seed: int) -> list[Genotype]:
    """Return networks spread evenly over the logarithm of the latency, from end to end.

    In a space that is grown, where ``costs`` has a part of the blocks only, over that of the MACs.
    """
    if isinstance(inner := in_float(space), GrownSpace):
        return inner.spread(count, Random(seed))
    rng = np.random.default_rng(seed)
    level = [[0.0] * len(row) for row in costs.mean_ms]
    targets_ms = np.geomspace(costs.smallest_ms * 1.05, costs.largest_ms, count)
    drawn = (window_samples(level, costs, 0.9 * t, t, 2, rng)[-1] for t in targets_ms.tolist())
    return [Genotype(space.name, choices) for choices in drawn]


class Bench:
    """Measures jobs that the journal lacks."""

    def __init__(
        self, profile: DeviceProfile, runner: Runner, folder: Path, progress: Progress | None,
        seed: int, reference_sha256: str, journal: str = JOURNAL, session: int = 0,
    ) -> None:  # fmt: skip
        self.profile, self.runner, self.progress = profile, runner, progress
        self.journal, self.folder = journal, folder
        self.session = session
        self.seed, self.reference_sha256 = seed, reference_sha256
        self.planned = 0
        self.profiled = 0
        """Networks that are still to be profiled, too."""

    def measure(self, jobs: Sequence[Job]) -> list[Entry]:
        """Measure in batches, each kept before the next begins; return the whole journal."""
        kept = self.entries()
        known = {(entry.keys, entry.network) for entry in kept}
        missing = [job for job in jobs if (job[0], job[1]) not in known]
        batch = max((entry.batch for entry in kept), default=0)
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            batch += 1
            with tempfile.TemporaryDirectory() as scratch:
                subjects = [
                    _subject(job, self.profile, Path(scratch) / str(n))
                    for n, job in enumerate(part)
                ]
                # first, so that a profiler that fails loses nothing measured
                shares = [self._shares(*pair) for pair in zip(part, subjects, strict=True)]
                measured = self.runner.measure(subjects, seed=self.seed + batch)
            for job, one, share in zip(part, measured, shares, strict=True):
                entry = Entry(
                    job.keys, job.network, self.reference_sha256, one, batch, self.session, share
                )
                append_line(self.folder / self.journal, entry)
            if self.progress is not None:
                self.progress(len(self.entries()), self.planned)
        return self.entries()

    def _shares(self, job: Job, subject: Subject) -> tuple[float, ...]:
        """Profile a network, if it is one of the first that shall be."""
        if not job.network or job.inputs or self.profiled <= 0:
            return ()
        self.profiled -= 1
        return block_shares(subject.path, self.profile, job.blocks)

    def entries(self) -> list[Entry]:
        return read_journal(self.folder, self.journal)


def _measure_all(bench: Bench, space: SearchSpace, networks: int, goal: float) -> list[Entry]:
    blocks = distinct_blocks(space)
    bench.planned = 1 + len(blocks) + networks
    null = Job((), False, ())
    entries = bench.measure([null, *(Job((block.key,), False, (block,)) for block in blocks)])
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
        targets = [space.architecture(one) for one in spread_networks(space, costs, 24, 1)]
        if half_width(model, [one.blocks for one in targets]) <= goal:
            break
        count = min(CHOSEN, networks - len(taken))
        pool = [one for one in pool if block_keys(one) not in seen]
        order = next_networks(
            model, [one.blocks for one in pool], [one.blocks for one in targets], count
        )
        taken += [network_job(pool[number]) for number in order]
        entries = bench.measure(taken)
    return entries


def network_job(architecture: Architecture) -> Job:
    return Job(block_keys(architecture), True, architecture.blocks, architecture.inputs)


def _subject(job: Job, profile: DeviceProfile, stem: Path) -> Subject:
    """Export blocks untrained, for their latency only."""
    keys, network, blocks, inputs = job
    format = FORMATS[profile.runtime]
    path = stem.with_suffix(f".{format}")
    if not blocks:
        compile_model(nn.Sequential(nn.ReLU()), (1, 1, 1), format, path)
        return Subject("null model", path)
    compile_untrained(blocks, inputs, format, path)
    return Subject("network" if network else keys[0], path)


def compile_untrained(
    blocks: Sequence[Block], inputs: tuple[tuple[int, ...], ...], format: Format, path: Path
) -> None:
    """Write a network of fresh weights, in the blocks' precision: latency does not depend on them.

    Nor does it on the ranges of an int8 file, so noise is enough to find some.
    """
    first = blocks[0]
    shape = (first.in_channels, first.in_size, first.in_size)
    network = untrained(tuple(blocks), inputs)
    if any(block.precision == "int8" for block in blocks):
        noise = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
        compile_model(network, shape, format, path, precision="int8", calibration=noise)
    else:
        compile_model(network, shape, format, path)
