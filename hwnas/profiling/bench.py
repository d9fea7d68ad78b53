"""Measuring models that the journal lacks: blocks alone and whole networks, exported untrained.

Each batch of measurements is written to the journal before the next begins, so nothing measured is
lost and a run that was cut off goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.artifact import Format
from hwnas.architecture.block import FREE_OPS
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject
from hwnas.export.compile import compile_model
from hwnas.files import append_line
from hwnas.latency_models.storage.journal import JOURNAL, Entry, read_journal
from hwnas.nn.build import untrained
from hwnas.profiling.block_times import block_shares

BATCH = 64
"""Models that are measured before they are written to the journal."""

Progress = Callable[[int, int], None]
"""Called with measured and planned models."""
Say = Callable[[str], None]


class Job(NamedTuple):
    """A model to be measured; without blocks it is the null model."""

    keys: tuple[str, ...]
    network: bool
    blocks: tuple[Block, ...]
    inputs: tuple[tuple[int, ...], ...] = ()
    """Wiring, as in `Architecture`."""


def alone_job(block: Block) -> Job:
    return Job((block.key,), False, (block,))


def network_job(architecture: Architecture) -> Job:
    return Job(block_keys(architecture), True, architecture.blocks, architecture.inputs)


def block_keys(architecture: Architecture) -> tuple[str, ...]:
    """Return the keys of the blocks that compute something, in order."""
    return tuple(block.key for block in architecture.blocks if block.op not in FREE_OPS)


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


def _subject(job: Job, profile: DeviceProfile, stem: Path) -> Subject:
    """Export blocks untrained, for their latency only."""
    keys, network, blocks, inputs = job
    format = RUNTIMES[profile.runtime].format
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
