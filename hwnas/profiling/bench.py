"""Measuring models that the journal lacks: isolated blocks and whole networks, exported untrained.

Each batch of measurements is written to the journal before the next begins, so nothing measured is
lost and an interrupted run continues.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.console import Update
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, reference_sha256
from hwnas.export.compile import compile_model
from hwnas.export.quantization.ptq import Int8
from hwnas.files import append_line
from hwnas.latency_models.storage.journal import JOURNAL, Entry, read_journal
from hwnas.measurement.disturbance import Disturbed, disturbed_line
from hwnas.measurement.measurement import Measurement
from hwnas.nn.build import untrained
from hwnas.profiling.block_times import block_shares

BATCH_SIZE = 64
"""Models that are measured before they are written to the journal."""


class ModelJob(NamedTuple):
    """A model to measure; without blocks it is the null model."""

    blocks: tuple[Block, ...]
    network: bool = False
    inputs: tuple[tuple[int, ...], ...] = ()
    """Wiring, as in `Architecture`."""

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the blocks that compute something, which name the model in the journal."""
        return tuple(block.key for block in self.blocks if not block.is_free)


NULL_JOB = ModelJob(())


def isolated_job(block: Block) -> ModelJob:
    return ModelJob((block,))


def network_job(architecture: Architecture) -> ModelJob:
    return ModelJob(architecture.blocks, True, architecture.inputs)


def block_keys(architecture: Architecture) -> tuple[str, ...]:
    """Return the keys of the blocks that compute something, in order."""
    return tuple(block.key for block in architecture.compute_blocks)


class Bench:
    """Measures those jobs on a device that its journal lacks."""

    def __init__(
        self,
        profile: DeviceProfile,
        runner: Runner,
        folder: Path,
        *,
        journal: str = JOURNAL,
        session: int = 0,
        seed: int = 0,
        progress: Update | None = None,
    ) -> None:
        self.profile, self.runner, self.progress = profile, runner, progress
        self.folder, self.journal = folder, journal
        self.session, self.seed = session, seed
        self.planned = 0
        """Expected length of the journal, for the progress."""
        self.profiles_left = 0
        """Number of networks that are still to be profiled."""

    @cached_property
    def reference_sha256(self) -> str:
        return reference_sha256(self.profile.runtime)

    def entries(self) -> list[Entry]:
        return read_journal(self.folder, self.journal)

    def measure(self, jobs: Sequence[ModelJob]) -> list[Entry]:
        """Measure jobs in batches, each job once, and journal each batch; return the whole
        journal."""
        entries = self.entries()
        known = {(entry.keys, entry.network) for entry in entries}
        distinct = {(job.keys, job.network): job for job in jobs}
        missing = [job for key, job in distinct.items() if key not in known]
        batch = max((entry.batch for entry in entries), default=0)
        for start in range(0, len(missing), BATCH_SIZE):
            batch += 1
            self._measure_batch(missing[start : start + BATCH_SIZE], batch)
            if self.progress is not None:
                done = len(self.entries())
                self.progress(done, self.planned, f"{done} of {self.planned} models")
        return self.entries()

    def _measure_batch(self, jobs: Sequence[ModelJob], batch: int) -> None:
        with tempfile.TemporaryDirectory() as scratch:
            subjects = [
                export_job(job, self.profile, Path(scratch) / str(number))
                for number, job in enumerate(jobs)
            ]
            # first, so that a failing profiler loses no measurement
            shares = [self._shares(*pair) for pair in zip(jobs, subjects, strict=True)]
            measurements, disturbed = self._measure(subjects, batch)
        for job, measurement, share in zip(jobs, measurements, shares, strict=True):
            if measurement is not None:
                sha256, session = self.reference_sha256, self.session
                entry = Entry(job.keys, job.network, sha256, measurement, batch, session, share)
                append_line(self.folder / self.journal, entry)
        if disturbed is not None:
            raise disturbed

    def _measure(
        self, subjects: Sequence[Subject], batch: int
    ) -> tuple[Sequence[Measurement | None], Disturbed | None]:
        """Return the undisturbed measurements, and the error if some were disturbed.

        Latencies in CPU time are left out, since no model is fitted to them.
        """
        line, results = "", list[Measurement | None]()
        try:
            results += self.runner.measure(subjects, seed=self.seed + batch)
        except Disturbed as error:
            line, results = str(error), list(error.measurements)
        by_cpu = [each for each in results if each is not None and each.clock == "cpu"]
        if by_cpu and not line:
            line = f"{self.profile.name}: {disturbed_line(by_cpu[0], len(by_cpu) - 1)}"
        if not line:
            return results, None
        stored = [each if each and each.clock == "wall" else None for each in results]
        count = sum(each is not None for each in stored)
        return stored, Disturbed(
            f"{line}; a latency model is fitted to undisturbed measurements only. {count} of "
            f"{len(subjects)} models of this batch are stored, the same command continues"
        )

    def _shares(self, job: ModelJob, subject: Subject) -> tuple[float, ...]:
        """Profile a network, if networks are still to be profiled."""
        if not job.network or job.inputs or self.profiles_left <= 0:
            return ()
        self.profiles_left -= 1
        return block_shares(subject.path, self.profile, job.blocks)


def export_job(job: ModelJob, profile: DeviceProfile, stem: Path) -> Subject:
    """Export the untrained model of a job for its latency."""
    format = RUNTIMES[profile.runtime].format
    path = stem.with_suffix(f".{format}")
    if not job.blocks:
        compile_model(nn.Sequential(nn.ReLU()), (1, 1, 1), path)
        return Subject("null model", path)
    compile_untrained(job.blocks, job.inputs, path)
    return Subject("network" if job.network else job.keys[0], path)


def compile_untrained(
    blocks: Sequence[Block], inputs: tuple[tuple[int, ...], ...], path: Path
) -> None:
    """Export a network with random weights, in the precision of its blocks.

    Latency depends neither on the weights nor on the ranges of an int8 file, so the latter are
    calibrated on noise.
    """
    first = blocks[0]
    shape = first.in_shape
    network = untrained(tuple(blocks), inputs)
    if any(block.precision == "int8" for block in blocks):
        noise = np.random.default_rng(0).standard_normal((2, *shape), np.float32)
        compile_model(network, shape, path, int8=Int8(noise))
    else:
        compile_model(network, shape, path)
