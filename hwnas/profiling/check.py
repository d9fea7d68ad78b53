"""Checking a latency model: networks measured now against its predictions."""

from __future__ import annotations

from pathlib import Path
from random import Random
from statistics import median
from typing import NamedTuple

import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture
from hwnas.console import Console
from hwnas.devices.runner import Runner, reference_sha256
from hwnas.errors import HwnasError
from hwnas.files import append_line
from hwnas.latency_models.drift_check import Comparison, compare_measured
from hwnas.latency_models.fitting.fit import update_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import (
    JOURNAL,
    Entry,
    fit_entries,
    observation_of,
    read_journal,
)
from hwnas.latency_models.storage.store import (
    outdated,
    published_model,
    read_measured,
    write_measured,
)
from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.profiling.bench import Bench, block_keys, network_job
from hwnas.profiling.setup import ProfilingSetup
from hwnas.spaces.space import SearchSpace

POOL_SIZE = 400
"""Random networks from which the fresh ones are selected, spread over the range of latencies."""


class ModelCheck(NamedTuple):
    """The result of a check."""

    comparison: Comparison
    entries: tuple[Entry, ...]
    journal: Path
    drift: float
    """Relative change of the reference model's latency since the calibration."""
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the check as plain data, without its samples."""
        return {
            "verdict": self.comparison.verdict,
            "networks": self.comparison.networks,
            "inside_90": self.comparison.inside,
            "inside_90_after_factor": self.comparison.inside_after_factor,
            "ratio": self.comparison.factor,
            "ratio_ci95": self.comparison.factor_ci95,
            "reference_drift": self.drift,
            "notes": self.notes,
            "journal": str(self.journal),
        }


def model_to_check(setup: ProfilingSetup, *, measured_only: bool = False) -> LatencyModel:
    """Return the measured model of a device for a space, or else a published one.

    Raises `HwnasError` if there is none, or if ``measured_only`` and it was not measured here.
    """
    name = setup.profile.name
    measured = read_measured(setup.folder)
    if measured is None and measured_only:
        raise HwnasError(
            f"--add: the model of {name} was not measured here: `{setup.measure_command}` "
            "measures one"
        )
    model = measured or published_model(name, setup.space)
    if model is None:
        raise HwnasError(f"{name}: no latency model yet: `{setup.measure_command}` makes one")
    return model


def check_model(
    model: LatencyModel,
    setup: ProfilingSetup,
    runner: Runner,
    console: Console,
    *,
    count: int = 10,
    seed: int = 0,
) -> ModelCheck:
    """Measure ``count`` networks that the model never saw, and compare.

    Writes the measurements to a new ``check-N.jsonl`` in the setup's folder. Raises `HwnasError`
    for a model that was made under other conditions, whose milliseconds mean something else, and
    if the model saw all networks.
    """
    profile, folder = setup.profile, setup.folder
    reference = reference_sha256(profile.runtime)
    if (reason := outdated(model, runner.probe(), reference)) is not None:
        raise HwnasError(
            f"the latency model does not hold: {reason}; `{setup.measure_command}` makes a new one"
        )
    fresh = fresh_networks(model, setup.space, count, seed)
    if not fresh:
        raise HwnasError(
            f"{profile.name}: the latency model was fitted to all networks of space "
            f"{setup.space.name}, so there is none to check it with"
        )
    journal = _free_name(folder)
    session = 1 + max((item.session for item in model.observations), default=0)
    with console.step(f"measuring {len(fresh)} fresh networks on {profile.name}") as update:
        bench = Bench(
            profile, runner, folder, journal=journal, session=session, seed=seed, progress=update
        )
        bench.planned = len(fresh)
        entries = bench.measure([network_job(network) for network in fresh])
    calibrated_ms = reference_ms(model, entries)
    measured_ms = {entry.keys: entry.measurement.ratio * calibrated_ms for entry in entries}
    comparison = compare_measured(
        model,
        [network.blocks for network in fresh],
        [measured_ms[block_keys(network)] for network in fresh],
    )
    drift = median(entry.measurement.reference_ms for entry in entries) / calibrated_ms - 1
    return ModelCheck(comparison, tuple(entries), folder / journal, drift, tuple(_notes(drift)))


def fresh_networks(
    model: LatencyModel, space: SearchSpace, count: int, seed: int
) -> list[Architecture]:
    """Return random networks that the model never saw, spread evenly over their latencies."""
    known, rng = {network.blocks for network in model.networks}, Random(seed)
    drawn = [space.architecture(space.random(rng)) for _ in range(POOL_SIZE)]
    by_blocks = {network.compute_blocks: network for network in drawn}
    pool = [network for blocks, network in by_blocks.items() if blocks not in known]
    if not pool:
        return []
    means_ms = model.predict([network.blocks for network in pool]).mean_ms
    ordered = [pool[place] for place in np.argsort(means_ms, kind="stable").tolist()]
    count = min(count, len(ordered))
    step = (len(ordered) - 1) / max(count - 1, 1)
    return [ordered[round(step * number)] for number in range(count)]


def reference_ms(model: LatencyModel, entries: list[Entry]) -> float:
    """Return the reference model's latency at calibration, or in ``entries`` without calibration.

    A published table has no calibration.
    """
    if model.conditions is not None:
        return model.conditions.reference_ms
    return median(entry.measurement.reference_ms for entry in entries)


def add_to_model(model: LatencyModel, check: ModelCheck, folder: Path) -> LatencyModel:
    """Fit the measured model of ``folder`` again with the networks of a check, as a new session.

    They are added to the journal, if there is one, so that every later fit includes them.
    """
    if entries := read_journal(folder):
        session = 1 + max(entry.session for entry in entries)
        batch = max(entry.batch for entry in entries)
        later = [
            msgspec.structs.replace(entry, session=session, batch=batch + entry.batch)
            for entry in check.entries
        ]
        updated = fit_entries(model.device, [*entries, *later])
        for entry in later:
            append_line(folder / JOURNAL, entry)
    else:
        calibrated_ms = reference_ms(model, list(check.entries))
        added = [observation_of(entry, calibrated_ms) for entry in check.entries]
        updated = update_model(model, added)
    write_measured(updated, folder)
    return updated


def _notes(drift: float) -> list[str]:
    notes: list[str] = []
    if abs(drift) > DRIFT_LIMIT:
        notes.append(
            f"the reference model's latency has changed by {drift:+.1%} since its calibration, so "
            "the clock's milliseconds differ from the model's; ratios to the reference are compared"
        )
    return notes


def _free_name(folder: Path) -> str:
    number = 1
    while (folder / f"check-{number}.jsonl").exists():
        number += 1
    return f"check-{number}.jsonl"
