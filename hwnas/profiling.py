"""From a device and a space to a latency table: export, measure, journal, fit.

Every distinct block of the space is measured alone, then some whole networks spread evenly over
the range of latencies (a search ends near its edges, where a correction learnt from random
networks of the middle fails). Each batch of measurements is written to a journal before the next
begins, so nothing measured is lost and a run that was cut off goes on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import msgspec
import numpy as np

from hwnas.architecture import Architecture, Block, Genotype
from hwnas.artifact import Format
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, file_sha256, reference_file
from hwnas.export.compile import compile_model
from hwnas.files import append_line, read_lines
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.latency_models.fit import fitted
from hwnas.latency_models.store import outdated, read_measured, set_aside, write_measured
from hwnas.latency_models.table import SCHEMA, Conditions, LatencyTable, NetworkMeasured
from hwnas.measurement import Environment, Measurement, quantile
from hwnas.nn.build import untrained
from hwnas.search.derive import window_samples
from hwnas.spaces.space import SearchSpace

NETWORKS = 24
BATCH = 16
"""Models that one worker process measures interleaved."""

FORMATS: dict[str, Format] = {"onnxruntime": "onnx", "litert": "tflite"}

Say = Callable[[str], None]
Progress = Callable[[int, int], None]
"""Called with measured and planned models."""


class Entry(msgspec.Struct, frozen=True):
    """One line of the journal: what was measured, and all samples."""

    keys: tuple[str, ...]
    """Keys of the blocks that compute something; one for a block alone."""
    network: bool
    reference_sha256: str
    """Of the reference model's file: ratios to another one do not mix with these."""
    measurement: Measurement


def latency_table(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    say: Say,
    progress: Progress | None = None,
    networks: int = NETWORKS,
    seed: int = 0,
) -> LatencyTable:
    """Return the table kept in ``folder``, measuring what is missing.

    A table or journal made under other conditions is set aside, and ``say`` is told why.
    """
    now = runner.probe()
    reference = file_sha256(reference_file(profile.runtime))
    table = read_measured(folder)
    if table is not None:
        reason = outdated(table, now, reference)
        if reason is not None:
            say(f"the latency table of {profile.name} is refused: {reason}; measuring again")
            set_aside(folder)
        elif missing := [one.key for one in distinct_blocks(space) if one.key not in table.rows_ms]:
            say(f"the latency table of {profile.name} lacks {len(missing)} blocks: measuring them")
        else:
            return table
    elif (reason := _journal_outdated(folder, now, reference)) is not None:
        say(f"the journal of {profile.name} is refused: {reason}; measuring again")
        set_aside(folder)
    entries = _measure_all(profile, runner, space, folder, progress, networks, seed, reference)
    table = fit_entries(profile.name, entries)
    write_measured(table, folder)
    return table


def fit_entries(device: str, entries: Sequence[Entry]) -> LatencyTable:
    """Fit a table to all measurements of a journal."""
    environment = entries[0].measurement.environment
    references = sorted(
        median(round.reference_ms) for entry in entries for round in entry.measurement.rounds
    )
    reference_ms = median(references)
    alone = {
        entry.keys[0]: entry.measurement.ratio * reference_ms
        for entry in entries
        if not entry.network
    }
    whole = [
        NetworkMeasured(
            entry.keys, entry.measurement.ratio * reference_ms, entry.measurement.standard_error
        )
        for entry in entries
        if entry.network
    ]
    spread = (quantile(references, 0.75) - quantile(references, 0.25)) / reference_ms
    kind = "simulated" if entries[0].measurement.kind == "simulated" else "measured"
    table = LatencyTable(
        schema=SCHEMA,
        device=device,
        kind=kind,
        source=f"{kind} by hwnas: {len(alone)} blocks alone, {len(whole)} whole networks",
        made=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        rows_ms=alone,
        isolated_ms=alone,
        conditions=Conditions(
            fingerprint=environment.fingerprint,
            hardware=environment.hardware,
            runtime=environment.runtime,
            runtime_version=environment.runtime_version,
            threads=environment.threads,
            reference_ms=reference_ms,
            reference_spread=spread,
            reference_sha256=entries[0].reference_sha256,
        ),
    )
    return fitted(table, whole)


def read_journal(folder: Path) -> list[Entry]:
    return list(read_lines(folder / "journal.jsonl", Entry))


def block_keys(architecture: Architecture) -> tuple[str, ...]:
    """Return the keys of the blocks that compute something, in order."""
    return tuple(block.key for block in architecture.blocks if block.op != "identity")


def distinct_blocks(space: SearchSpace) -> list[Block]:
    """Return every block that a network of ``space`` may have, each once."""
    blocks = [*space.fixed, *(site.block for site in space.sites() if site.block.op != "identity")]
    return list({block.key: block for block in blocks}.values())


def spread_networks(space: SearchSpace, costs: CostTable, count: int, seed: int) -> list[Genotype]:
    """Return networks spread evenly over the logarithm of the latency, from end to end."""
    rng = np.random.default_rng(seed)
    level = [[0.0] * len(row) for row in costs.mean_ms]
    targets_ms = np.geomspace(costs.smallest_ms * 1.05, costs.largest_ms, count)
    drawn = (window_samples(level, costs, 0.9 * t, t, 2, rng)[-1] for t in targets_ms.tolist())
    return [Genotype(space.name, choices) for choices in drawn]


def _measure_all(
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    progress: Progress | None,
    networks: int,
    seed: int,
    reference_sha256: str,
) -> list[Entry]:
    blocks = distinct_blocks(space)
    planned = len(blocks) + networks
    journal = folder / "journal.jsonl"

    def measure(jobs: list[tuple[tuple[str, ...], bool, tuple[Block, ...]]]) -> list[Entry]:
        """Measure what the journal lacks; return all entries."""
        known = {(entry.keys, entry.network) for entry in read_journal(folder)}
        missing = [job for job in jobs if (job[0], job[1]) not in known]
        for start in range(0, len(missing), BATCH):
            part = missing[start : start + BATCH]
            with tempfile.TemporaryDirectory() as scratch:
                subjects = [
                    _subject(job, profile, Path(scratch) / str(n)) for n, job in enumerate(part)
                ]
                measured = runner.measure(subjects, seed=seed + start)
            for (keys, network, _), one in zip(part, measured, strict=True):
                append_line(journal, Entry(keys, network, reference_sha256, one))
            if progress is not None:
                progress(len(read_journal(folder)), planned)
        return read_journal(folder)

    entries = measure([((block.key,), False, (block,)) for block in blocks])
    alone = {entry.keys[0]: entry.measurement.ratio for entry in entries if not entry.network}
    costs = cost_table(space, lambda block: alone[block.key], 0.0)
    chosen = [space.architecture(one) for one in spread_networks(space, costs, networks, seed)]
    return measure([(block_keys(one), True, one.blocks) for one in chosen])


def _subject(
    job: tuple[tuple[str, ...], bool, tuple[Block, ...]], profile: DeviceProfile, stem: Path
) -> Subject:
    """Export blocks untrained, for their latency only."""
    keys, network, blocks = job
    format = FORMATS[profile.runtime]
    first = blocks[0]
    path = stem.with_suffix(f".{format}")
    compile_model(
        untrained(blocks), (first.in_channels, first.in_size, first.in_size), format, path
    )
    return Subject("network" if network else keys[0], path)


def _journal_outdated(folder: Path, now: Environment, reference_sha256: str) -> str | None:
    for entry in read_journal(folder)[:1]:
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
