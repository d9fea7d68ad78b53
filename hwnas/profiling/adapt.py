"""`hwnas latency adapt`: a model of a new device from another's and few of its own networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import median

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.console import Console
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, file_sha256, reference_file
from hwnas.errors import HwnasError
from hwnas.latency_models.fitting.active_learning import count_further_networks, median_half_width
from hwnas.latency_models.fitting.fit import fit_model, seal
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.journal import (
    conditions_of,
    journal_outdated,
    observations_of,
    read_journal,
)
from hwnas.measurement.measurement import quantile
from hwnas.profiling.bench import Bench, block_keys, network_job
from hwnas.profiling.sampling import predicted_costs, spread_networks
from hwnas.spaces.space import SearchSpace

POOL, TARGETS = 120, 24
"""Networks that could be measured further; networks whose interval is judged."""
GOALS = (0.10, 0.07, 0.05, 0.03, 0.02)
"""Half-widths that are worth naming."""
WORTH = 0.8
"""An interval is named if it is narrower by this factor."""


class Outlook(msgspec.Struct, frozen=True):
    """How sure the model is of networks of a space, and what more measurements would bring."""

    half_width: float
    """Of the 90 % interval, relative; the median over networks of the space."""
    further: int | None
    """Networks to measure until ``goal`` is reached; ``None``: no number up to 100 is enough."""
    goal: float | None


def adapted_model(
    device: str, source: LatencyModel, observations: Sequence[Observation], said: str
) -> LatencyModel:
    """Fit a model of ``device`` to observations of its own, ``said`` to be where they are from."""
    return fit_model(
        device,
        observations,
        kind="adapted",
        source=f"{said}; block costs from {source.device}",
        sources=[source],
    )


def measure_adapted(
    source: LatencyModel,
    profile: DeviceProfile,
    runner: Runner,
    space: SearchSpace,
    folder: Path,
    console: Console,
    count: int,
    seed: int = 0,
) -> LatencyModel:
    """Measure ``count`` networks, spread over the range, and adapt the source's model to them.

    They are kept in the device's journal, so `measure` has them, too.
    """
    now, reference = runner.probe(), file_sha256(reference_file(profile.runtime))
    kept = read_journal(folder)
    if (reason := journal_outdated(kept, now, reference)) is not None:
        raise HwnasError(
            f"{folder / 'journal.jsonl'}: {reason}; set it aside with `hwnas latency measure "
            f"--target {profile.name} --again`"
        )
    chosen = [
        space.architecture(one)
        for one in spread_networks(space, predicted_costs(source, space), count, seed)
    ]
    with console.step(f"measuring {len(chosen)} networks on {profile.name}") as update:
        bench = Bench(
            profile, runner, folder,
            lambda done, planned: update(done - len(kept), planned, f"{done} models"),
            seed, reference,
        )  # fmt: skip
        bench.planned = len(chosen)
        wanted = {block_keys(one) for one in chosen}
        entries = [
            one
            for one in bench.measure([network_job(one) for one in chosen])
            if one.network and one.keys in wanted
        ]
    references = sorted(
        median(round.reference_ms) for one in entries for round in one.measurement.rounds
    )
    spread = (quantile(references, 0.75) - quantile(references, 0.25)) / median(references)
    kind = entries[0].measurement.kind
    model = adapted_model(
        profile.name, source, observations_of(entries), f"{len(entries)} networks {kind} by hwnas"
    )
    conditions = conditions_of(
        entries[0].measurement.environment, median(references), spread, reference
    )
    return seal(msgspec.structs.replace(model, conditions=conditions))


def outlook(model: LatencyModel, space: SearchSpace, seed: int = 0) -> Outlook:
    """Say how wide the intervals of a space's networks are, and what more networks would bring."""
    rng = Random(seed)
    drawn = [space.architecture(space.random(rng)).blocks for _ in range(POOL + TARGETS)]
    return outlook_over(model, drawn[:POOL], drawn[POOL:])


def outlook_of_own(model: LatencyModel) -> Outlook:
    """Say it of networks like the model's own, where no space is known."""
    own = [[Block.from_key(key) for key in one.keys] for one in model.networks]
    return outlook_over(model, own, own)


def outlook_over(
    model: LatencyModel, pool: Sequence[Sequence[Block]], targets: Sequence[Sequence[Block]]
) -> Outlook:
    """Say it for ``targets``, if networks of ``pool`` were measured further."""
    width = median_half_width(model, targets)
    for goal in GOALS:
        if goal <= WORTH * width:
            found = count_further_networks(model, pool, targets, goal)
            return Outlook(width, found or None, goal)
    return Outlook(width, 0, None)


def outlook_words(found: Outlook) -> str:
    """Say it in one line."""
    now = f"90 % interval of a network: ±{found.half_width:.1%} (median)"
    if found.goal is None:
        return f"{now}; more networks would hardly narrow it"
    if found.further is None:
        return (
            f"{now}; even 100 more networks would not bring it to ±{found.goal:.0%}: what each "
            "block deviates by itself and the noise of measuring remain"
        )
    many = "network" if found.further == 1 else "networks"
    would = f"{found.further} more {many} would bring it to ±{found.goal:.0%}"
    return f"{now}; {would}"
