"""`hwnas latency check`: fresh networks measured now, against a model that was made before."""

from __future__ import annotations

from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.console import Console
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, file_sha256, reference_file
from hwnas.errors import HwnasError
from hwnas.files import append_line
from hwnas.latency_models.drift_check import Comparison, compare_fresh
from hwnas.latency_models.fitting.fit import update_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import (
    JOURNAL,
    Entry,
    fit_entries,
    observation_of,
    read_journal,
)
from hwnas.latency_models.storage.store import outdated, write_measured
from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.profiling.bench import Bench, block_keys, network_job
from hwnas.spaces.space import SearchSpace

POOL = 400
"""Random networks among which the fresh ones are picked, spread over the range."""


class ModelOutdated(HwnasError):
    """A model that was made under other conditions than those of now."""


class Checked(NamedTuple):
    """The outcome of a check."""

    comparison: Comparison
    entries: tuple[Entry, ...]
    journal: Path
    drift: float
    """Relative change of the reference model's speed since the model's calibration."""
    notes: tuple[str, ...]


def check_model(
    model: LatencyModel,
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    console: Console,
    count: int = 10,
    seed: int = 0,
) -> Checked:
    """Measure ``count`` networks that the model never saw and compare.

    Every measurement goes to a new ``check-N.jsonl`` in ``folder``. Raises `ModelOutdated` for a
    model that was made under other conditions: its milliseconds mean something else.
    """
    reference = file_sha256(reference_file(profile.runtime))
    if (reason := outdated(model, runner.probe(), reference)) is not None:
        raise ModelOutdated(f"the latency model does not hold: {reason}")
    fresh = fresh_networks(model, space, count, seed)
    journal = _free_name(folder)
    session = 1 + max((one.session for one in model.observations), default=0)
    with console.step(f"measuring {len(fresh)} fresh networks on {profile.name}") as update:
        bench = Bench(
            profile, runner, folder,
            lambda done, planned: update(done, planned, f"{done} of {planned} networks"),
            seed, reference, journal, session,
        )  # fmt: skip
        bench.planned = len(fresh)
        entries = bench.measure([network_job(one) for one in fresh])
    calibrated_ms = reference_ms(model, entries)
    measured = {one.keys: one.measurement.ratio * calibrated_ms for one in entries}
    comparison = compare_fresh(
        model, [one.blocks for one in fresh], [measured[block_keys(one)] for one in fresh]
    )
    drift = median(one.measurement.reference_ms for one in entries) / calibrated_ms - 1
    return Checked(comparison, tuple(entries), folder / journal, drift, tuple(_notes(drift)))


def fresh_networks(
    model: LatencyModel, space: SearchSpace, count: int, seed: int
) -> list[Architecture]:
    """Return random networks that the model never saw, spread evenly over their latencies."""
    seen, rng = {one.keys for one in model.networks}, Random(seed)
    drawn = (space.architecture(space.random(rng)) for _ in range(POOL))
    pool = {block_keys(one): one for one in drawn if block_keys(one) not in seen}
    means = model.predict([one.blocks for one in pool.values()]).mean_ms
    ordered = [one for _, one in sorted(zip(means.tolist(), pool.values(), strict=True),
                                        key=lambda pair: pair[0])]  # fmt: skip
    count = min(count, len(ordered))
    step = (len(ordered) - 1) / max(count - 1, 1)
    return [ordered[round(step * number)] for number in range(count)]


def reference_ms(model: LatencyModel, entries: list[Entry]) -> float:
    """Return the calibration, or this run's own where the model has none (a published table)."""
    if model.conditions is not None:
        return model.conditions.reference_ms
    return median(one.measurement.reference_ms for one in entries)


def add_to_model(model: LatencyModel, checked: Checked, folder: Path) -> LatencyModel:
    """Fit the measured model of ``folder`` again with what a check measured, a session of its own.

    The journal, where there is one, takes the measurements, so that every later fit has them, too.
    """
    if kept := read_journal(folder):
        session = 1 + max(one.session for one in kept)
        batch = max(one.batch for one in kept)
        later = [
            msgspec.structs.replace(one, session=session, batch=batch + one.batch)
            for one in checked.entries
        ]
        made = fit_entries(model.device, [*kept, *later])
        for entry in later:
            append_line(folder / JOURNAL, entry)
        write_measured(made, folder)
        return made
    calibrated_ms = reference_ms(model, list(checked.entries))
    made = update_model(model, [observation_of(one, calibrated_ms) for one in checked.entries])
    write_measured(made, folder)
    return made


def _notes(drift: float) -> list[str]:
    notes: list[str] = []
    if abs(drift) > DRIFT_LIMIT:
        notes.append(
            f"the reference model runs {drift:+.1%} against its calibration: the clock shows other "
            "milliseconds than the model's; ratios to the reference are compared"
        )
    return notes


def _free_name(folder: Path) -> str:
    number = 1
    while (folder / f"check-{number}.jsonl").exists():
        number += 1
    return f"check-{number}.jsonl"
