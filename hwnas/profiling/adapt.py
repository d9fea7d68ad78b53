"""Adapting a latency model to a new device, from a few of the device's own networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.console import Console
from hwnas.devices.runner import Runner, reference_sha256
from hwnas.errors import HwnasError, InvalidFile
from hwnas.latency_models.fitting.active_learning import count_further_networks, median_half_width
from hwnas.latency_models.fitting.fit import MIN_NETWORKS, fit_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.journal import (
    JOURNAL,
    conditions_of,
    journal_outdated,
    observations_of,
    read_journal,
    reference_speed,
)
from hwnas.profiling.bench import Bench, block_keys, network_job
from hwnas.profiling.sampling import predicted_costs, spread_networks
from hwnas.profiling.setup import ProfilingSetup
from hwnas.profiling.sources import read_source
from hwnas.spaces.space import SearchSpace

POOL_SIZE, NUM_TARGETS = 120, 24
"""Networks that could be measured, and networks whose interval is evaluated."""
GOALS = (0.10, 0.07, 0.05, 0.03, 0.02)
"""Half-widths that may be suggested as a goal."""
MAX_GOAL_RATIO = 0.8
"""Largest ratio of a suggested goal to the present half-width."""


class Outlook(msgspec.Struct, frozen=True):
    """How precise a model is for a space, and how far more networks would improve it."""

    half_width: float
    """Relative, of the networks' 90 % interval (median)."""
    further: int | None
    """Networks to measure until ``goal`` is reached; ``None``: not even 100 are enough."""
    goal: float | None
    """A narrower half-width; ``None``: there is none that more networks could reach."""


def adapted_model(
    device: str, source: LatencyModel, observations: Sequence[Observation], origin: str
) -> LatencyModel:
    """Fit a model of ``device`` to its own observations; ``origin`` describes their source."""
    return fit_model(
        device,
        observations,
        kind="adapted",
        source=f"{origin}; block costs from {source.device}",
        sources=[source],
    )


def adapt_to_file(source: LatencyModel, file: Path, device: str) -> tuple[LatencyModel, list[str]]:
    """Adapt ``source`` to the latencies in a table or journal; also return notes on the file."""
    observations, origin, notes = read_source(file, device)
    try:
        return adapted_model(device, source, observations, origin), notes
    except HwnasError as error:
        raise InvalidFile(str(file), str(error)) from None


def measure_adapted(
    source: LatencyModel,
    setup: ProfilingSetup,
    runner: Runner,
    console: Console,
    *,
    count: int,
    seed: int = 0,
) -> LatencyModel:
    """Measure ``count`` networks, spread over the range, and adapt ``source`` to them.

    They are written to the device's journal, so that `measure_latency_model` uses them, too.
    """
    profile, space, folder = setup.profile, setup.space, setup.folder
    now, reference = runner.probe(), reference_sha256(profile.runtime)
    earlier = read_journal(folder)
    if (reason := journal_outdated(earlier, now, reference)) is not None:
        raise HwnasError(
            f"{folder / JOURNAL}: {reason}; `{setup.measure_command} --again` sets it aside"
        )
    genotypes = spread_networks(space, predicted_costs(source, space), count, seed)
    chosen = [space.architecture(genotype) for genotype in genotypes]
    with console.step(f"measuring {len(chosen)} networks on {profile.name}") as update:
        bench = Bench(profile, runner, folder, seed=seed, progress=update)
        bench.planned = len(earlier) + len(chosen)
        journal = bench.measure([network_job(network) for network in chosen])
    keys = {block_keys(network) for network in chosen}
    entries = [entry for entry in journal if entry.network and entry.keys in keys]
    calibrated_ms, spread = reference_speed(entries)
    kind = entries[0].measurement.kind
    model = adapted_model(
        profile.name, source, observations_of(entries), f"{len(entries)} networks {kind} by hwnas"
    )
    conditions = conditions_of(entries[0].measurement.environment, calibrated_ms, spread, reference)
    return msgspec.structs.replace(model, conditions=conditions)


def outlook(model: LatencyModel, space: SearchSpace | None = None, seed: int = 0) -> Outlook | None:
    """Return the outlook for networks of ``space``, or for networks like the observed ones.

    ``None`` without a space if fewer than three networks were observed.
    """
    if space is None:
        networks = [network.blocks for network in model.networks]
        return _outlook(model, networks, networks) if len(networks) >= MIN_NETWORKS else None
    rng = Random(seed)
    drawn = [space.architecture(space.random(rng)).blocks for _ in range(POOL_SIZE + NUM_TARGETS)]
    return _outlook(model, drawn[:POOL_SIZE], drawn[POOL_SIZE:])


def _outlook(
    model: LatencyModel, pool: Sequence[Sequence[Block]], targets: Sequence[Sequence[Block]]
) -> Outlook:
    """Return the outlook for ``targets``, if more networks of ``pool`` were measured."""
    half_width = median_half_width(model, targets)
    for goal in GOALS:
        if goal <= MAX_GOAL_RATIO * half_width:
            count = count_further_networks(model, pool, targets, goal)
            return Outlook(half_width, count or None, goal)
    return Outlook(half_width, 0, None)


def outlook_sentence(outlook: Outlook) -> str:
    """Return the outlook in one line."""
    now = f"90 % interval of a network: ±{outlook.half_width:.1%} (median)"
    if outlook.goal is None:
        return f"{now}; more networks would hardly narrow it"
    if outlook.further is None:
        return (
            f"{now}; even 100 more networks would not narrow it to ±{outlook.goal:.0%}, as each "
            "block's own deviation and the measurement noise remain"
        )
    networks = "network" if outlook.further == 1 else "networks"
    return f"{now}; {outlook.further} more {networks} would narrow it to ±{outlook.goal:.0%}"
