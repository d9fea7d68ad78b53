"""Deriving networks at the end of a round, judging them cheaply, and measuring their latency."""

from __future__ import annotations

import tempfile
from pathlib import Path

import msgspec

from hwnas.architecture import Architecture, Genotype
from hwnas.devices.runner import Subject
from hwnas.errors import HwnasError
from hwnas.export.compile import compile_model
from hwnas.latency_models.table import LatencyTable
from hwnas.measurement import Measurement
from hwnas.nn.build import untrained
from hwnas.pipeline.job import Found, Job
from hwnas.profiling import FORMATS
from hwnas.search.strategy import Strategy
from hwnas.spaces.mobile import Candidate, MobileSpace, mobilenet_v2_like
from hwnas.training import RECALIBRATED, Data, accuracy, derived_seed, recalibrate

WINDOW = (0.95, 0.98)
"""Networks are derived with a predicted latency between these shares of the budget. Not up to all
of it: a network measured again moves by a percent or two, and the same seed should give the same
network."""

WIDTHS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Width multipliers of the uniform networks that are measured as baselines."""

UNIFORM = (Candidate("mbconv", 3, 6), Candidate("mbconv", 3, 3))
"""MobileNetV2's own block, and its half."""


class Probabilities(msgspec.Struct, frozen=True):
    """What the search preferred at its end: ``[P][K]`` each."""

    probs: tuple[tuple[float, ...], ...]
    cost_ms: tuple[tuple[float, ...], ...]


class Screened(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a round: ``search/round-N.json``."""

    round: int
    found: tuple[Found, ...]
    table: LatencyTable
    """With which the networks of this round were predicted."""
    probabilities: Probabilities | None


def screen(
    job: Job, strategy: Strategy, table: LatencyTable, number: int, train: Data, valid: Data
) -> Screened:
    """Derive networks near the budget, judge them on the supernet, measure their latency."""
    seed = derived_seed(job.run.config.seed, "derive", number)
    low_ms, high_ms = (share * job.budget_ms for share in WINDOW)
    if table.cost_table(job.space).smallest_ms > high_ms:
        high_ms = job.budget_ms  # only the fastest networks keep it
    genotypes = strategy.candidates(job.effort.screened, low_ms, high_ms, seed)
    found = [
        _judged(
            f"{job.run.config.strategy} {number}.{rank}", one, job, table, strategy, train, valid
        )
        for rank, one in enumerate(genotypes, 1)
    ]
    found += uniform_networks(job.space, table)
    if job.target.runner is not None:
        with job.console.step(f"measuring {len(found)} networks"), job.run.stage("measure"):
            found = _measured(job, table, found, number)
    return Screened(
        round=number, found=tuple(found), table=table, probabilities=_probabilities(strategy)
    )


def uniform_networks(space: MobileSpace, table: LatencyTable) -> list[Found]:
    """Return the baselines: uniform networks of several widths, each architecture once."""
    found: dict[str, Found] = {}
    for candidate in UNIFORM:
        for width_mult in WIDTHS:
            one = mobilenet_v2_like(space, candidate, width_mult)
            found.setdefault(
                one.digest,
                Found(
                    name=f"uniform {candidate.name} x{width_mult:g}",
                    origin="uniform",
                    architecture=one,
                    predicted_ms=_prediction(one, table),
                ),
            )
    return list(found.values())


def measure(
    job: Job, table: LatencyTable, stage: str, files: dict[str, Path]
) -> dict[str, Measurement]:
    """Measure files (by their architectures' digests) interleaved; what is journaled is reused."""
    assert job.target.runner is not None
    known = job.run.measured(stage)
    missing = {digest: path for digest, path in files.items() if digest not in known}
    if missing:
        calibrated_ms = table.conditions.reference_ms if table.conditions else None
        measured = job.target.runner.measure(
            [Subject(digest, path) for digest, path in missing.items()],
            calibrated_reference_ms=calibrated_ms,
            seed=job.run.config.seed,
        )
        for one in measured:
            job.run.journal(stage, one.name, one)
    return job.run.measured(stage)


def _judged(
    name: str,
    genotype: Genotype,
    job: Job,
    table: LatencyTable,
    strategy: Strategy,
    train: Data,
    valid: Data,
) -> Found:
    """Say what the latency table and the supernet say of a genotype."""
    network = strategy.supernet.extract(genotype)
    recalibrate(network, train.drawn(RECALIBRATED // 2, job.run.config.seed))
    architecture = job.space.architecture(genotype)
    return Found(
        name=name,
        origin="search",
        architecture=architecture,
        predicted_ms=table.network_ms(architecture.blocks),
        supernet_accuracy=accuracy(network, valid),
    )


def _prediction(architecture: Architecture, table: LatencyTable) -> float | None:
    """Return the table's latency, or ``None`` where the table lacks a block."""
    try:
        return table.network_ms(architecture.blocks)
    except HwnasError:
        return None


def _measured(job: Job, table: LatencyTable, found: list[Found], number: int) -> list[Found]:
    """Measure all of ``found`` untrained: latency does not depend on the weights."""
    format = FORMATS[job.target.profile.runtime]
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for one in found:
            architecture = one.architecture
            path = Path(scratch) / f"{architecture.digest}.{format}"
            compile_model(untrained(architecture.blocks), architecture.input_shape, format, path)
            files[architecture.digest] = path
        measured = measure(job, table, f"screen-{number}", files)
    return [
        msgspec.structs.replace(one, measured_ms=measured[one.architecture.digest].median_ms)
        for one in found
    ]


def _probabilities(strategy: Strategy) -> Probabilities | None:
    preferred = strategy.preferences()
    if preferred is None:
        return None
    probs, costs = preferred
    return Probabilities(tuple(map(tuple, probs)), costs.mean_ms)
