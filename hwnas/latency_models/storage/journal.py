"""The journal of a device's measurements, one per line with all samples, and fitting a model to it.

A later session (`hwnas latency check --add`) is appended to the same journal; its milliseconds keep
the calibration of the first session.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot
from pathlib import Path
from statistics import fmean, median

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError
from hwnas.files import read_lines
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import Conditions, LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.measurement.measurement import DRIFT_LIMIT, Environment, Measurement, quantile

JOURNAL = "journal.jsonl"

RESOLUTION_MS = 0.001
"""Resolution of the runtimes' profilers."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: a measured model, and all samples."""

    keys: tuple[str, ...]
    """Keys of the blocks that compute something: one for an isolated block,
    none for the null model."""
    network: bool
    reference_sha256: str
    """Hash of the reference model's file; ratios to another model are not comparable."""
    measurement: Measurement
    batch: int = 0
    """Number of the batch of worker processes that measured it, from 1; 0 if it is unknown."""
    session: int = 0
    """0 for the first measurements; each `check` that was added is a further session."""
    shares: tuple[float, ...] = ()
    """Share of each of ``keys`` in a network's time, by the profiler; empty if not profiled."""


def read_journal(folder: Path, name: str = JOURNAL) -> list[Entry]:
    return list(read_lines(folder / name, Entry))


def fit_entries(device: str, entries: Sequence[Entry], validate: bool = True) -> LatencyModel:
    """Fit a model to measurements of a journal."""
    if not entries:
        raise HwnasError(f"{device}: the journal is empty, nothing was measured")
    environment = entries[0].measurement.environment
    reference_ms, spread = reference_speed(entries)
    measured_as = entries[0].measurement.kind
    kind = measured_as if measured_as in ("simulated", "emulated") else "measured"
    alone = sum(not entry.network and bool(entry.keys) for entry in entries)
    return fit_model(
        device,
        observations_of(entries),
        kind=kind,
        source=f"{kind} by hwnas: {alone} blocks alone, "
        f"{sum(entry.network for entry in entries)} whole networks",
        conditions=conditions_of(environment, reference_ms, spread, entries[0].reference_sha256),
        validate=validate,
    )


def observations_of(entries: Sequence[Entry]) -> list[Observation]:
    """Return the measurements, calibrated by the reference's median latency in the first
    session."""
    reference_ms = reference_ms_of(entries)
    whole = [observation_of(entry, reference_ms) for entry in entries]
    profiled = [
        block
        for entry, network in zip(entries, whole, strict=True)
        for block in profiled_blocks(entry, network)
    ]
    return [*whole, *profiled]


def reference_ms_of(entries: Sequence[Entry]) -> float:
    """Return the reference's median latency over all rounds of the first session."""
    return reference_speed(entries)[0]


def reference_speed(entries: Sequence[Entry]) -> tuple[float, float]:
    """Return the reference's latency in ms and its interquartile range as a share of it.

    The median is over all rounds of the first session. Rounds beside a larger reference model are
    converted to the latency of the reference itself.
    """
    references_ms = sorted(
        median(round.counted_reference_ms)
        for entry in entries
        if entry.session == entries[0].session
        for round in entry.measurement.rounds
    )
    reference_ms = median(references_ms)
    low_ms, high_ms = (quantile(references_ms, share) for share in (0.25, 0.75))
    return reference_ms, (high_ms - low_ms) / reference_ms


def observation_of(entry: Entry, reference_ms: float) -> Observation:
    return Observation(
        "network" if entry.network else "isolated",
        tuple(map(Block.from_key, entry.keys)),
        entry.measurement.ratio * reference_ms,
        entry.measurement.standard_error,
        session=entry.session,
        process=entry.batch,
    )


def profiled_blocks(entry: Entry, network: Observation) -> list[Observation]:
    """Return the times of a network's blocks, by the profiler's shares of the measured latency.

    Their sum is the network's latency, which the overhead of profiling does not change. The error
    that all profiled times share, and the error of each, have scales of their own in the model
    (`TERMS`). Each operator also has an error of `RESOLUTION_MS`, a large part of a short
    operator's time.
    """
    if not entry.shares:
        return []
    times_ms: dict[Block, list[float]] = {}
    for block, share in zip(network.blocks, entry.shares, strict=True):
        times_ms.setdefault(block, []).append(share * network.ms)
    means_ms = {block: fmean(ms) for block, ms in times_ms.items() if sum(ms) > 0}
    return [
        Observation(
            "in_network",
            (block,),
            ms,
            hypot(network.standard_error, RESOLUTION_MS * len(block.kernels) / ms),
            network.session,
            network.process,
        )
        for block, ms in means_ms.items()
    ]


def conditions_of(
    environment: Environment, reference_ms: float, spread: float, reference_sha256: str
) -> Conditions:
    return Conditions(
        fingerprint=environment.fingerprint,
        hardware=environment.hardware,
        runtime=environment.runtime,
        runtime_version=environment.runtime_version,
        threads=environment.threads,
        reference_ms=reference_ms,
        reference_spread=spread,
        reference_sha256=reference_sha256,
    )


def journal_outdated(
    entries: Sequence[Entry], now: Environment, reference_sha256: str
) -> str | None:
    """Return why measurements of ``now`` cannot stand beside those of the journal, or ``None``."""
    for entry in entries[:1]:
        then = entry.measurement.environment
        if (then.fingerprint, then.runtime_version) != (now.fingerprint, now.runtime_version):
            return (
                f"it was begun on {then.hardware} with {then.runtime} {then.runtime_version}, "
                f"this is {now.hardware} with {now.runtime_version}"
            )
        if then.threads != now.threads:
            return f"it was begun with {then.threads} threads, the profile now says {now.threads}"
        if entry.reference_sha256 != reference_sha256:
            return "the reference model has changed since it was begun"
    return None


def speed_step(entries: Sequence[Entry]) -> str | None:
    """Return a sentence on a step of the device's speed during the measurements; ``None`` if it was
    steady.

    The step is where the medians of the reference before and after differ most.
    """
    speeds = [entry.measurement.reference_ms for entry in entries]
    splits = range(3, len(speeds) - 2)
    if not splits:
        return None
    sides = [(median(speeds[:place]), median(speeds[place:]), place) for place in splits]
    before, after, place = max(sides, key=lambda side: abs(side[1] / side[0] - 1))
    if abs(after / before - 1) <= DRIFT_LIMIT:
        return None
    return (
        f"the device's speed changed: from measurement {place + 1} of {len(speeds)} on, the "
        f"reference model took {after:.4g} ms, not {before:.4g} ms ({after / before - 1:+.0%}); "
        "latencies are ratios to it, so they hold if all models changed by the same factor"
    )
