"""Deriving networks at the end of a round, judging them cheaply, and measuring their latency."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.limits import weights_fit
from hwnas.devices.runner import Subject
from hwnas.errors import ExportError, HwnasError
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import ModelFile, file_of, model_of
from hwnas.measurement.measurement import Measurement
from hwnas.profiling.bench import compile_untrained
from hwnas.search.strategy import Strategy
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import Candidate, RunContext
from hwnas.training.checkpoint import save_checkpoint
from hwnas.training.loader import Data, derived_seed
from hwnas.training.loop import RECALIBRATED, accuracy, recalibrate

MARGIN = (0.02, 0.06)
"""Networks are derived with a predicted latency of at least so much, at most so much, below the
budget; in between as much as keeps it with `CONFIDENCE`. A network measured again moves by a
percent or two, and the same seed should give the same network."""

CONFIDENCE = 0.9
WIDTH = 0.03
"""Width of the window, as a share of the budget."""


class Probabilities(msgspec.Struct, frozen=True):
    """What the search preferred at its end: ``[P][K]`` each."""

    probs: tuple[tuple[float, ...], ...]
    cost_ms: tuple[tuple[float, ...], ...]


class Screened(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The outcome of a round: ``search/round-N.json``."""

    round: int
    candidates: tuple[Candidate, ...]
    model_file: ModelFile
    """The latency model that predicted the networks of this round."""
    probabilities: Probabilities | None

    @cached_property
    def model(self) -> LatencyModel:
        return model_of(self.model_file)


def screen(
    run: RunContext, strategy: Strategy, model: LatencyModel, number: int, train: Data, valid: Data
) -> Screened:
    """Derive networks near the budget, judge them on the supernet, measure their latency."""
    seed = derived_seed(run.spec.seed, "derive", number)
    low_ms, high_ms = (share * run.budget_ms for share in window(run, model))
    if model.costs(run.space).smallest_ms > high_ms:
        high_ms = run.budget_ms  # only the fastest networks keep it
    genotypes = strategy.candidates(run.effort.screened, low_ms, high_ms, seed)
    found = [
        _judged(f"{run.spec.strategy} {number}.{rank}", one, run, model, strategy, train, valid)
        for rank, one in enumerate(genotypes, 1)
    ]
    found += baseline_networks(run.space, model)
    found = _small_enough(run, found)
    if run.target.runner is not None:
        with run.console.step(f"measuring {len(found)} networks"), run.folder.stage("measure"):
            found = _measured(run, model, found, number)
    return Screened(
        round=number,
        candidates=tuple(found),
        model_file=file_of(model),
        probabilities=_probabilities(strategy),
    )


def _small_enough(run: RunContext, found: list[Candidate]) -> list[Candidate]:
    """Leave out networks whose weights alone are too large for the device, before training."""
    profile = run.target.profile
    kept = [one for one in found if weights_fit(one.architecture, profile)]
    if len(kept) == len(found):
        return found
    run.console.say(
        f"{len(found) - len(kept)} of {len(found)} networks are larger than the "
        f"{profile.limits.model_bytes:,} bytes that {profile.name} takes: left out"
    )
    if not any(one.origin == "search" for one in kept):
        raise ExportError(
            f"no network that was found has a file of at most {profile.limits.model_bytes:,} bytes "
            f"({profile.name}, [limits] model_bytes): a smaller --space, --precision int8 or a "
            "smaller budget may give one"
        )
    return kept


def window(run: RunContext, model: LatencyModel) -> tuple[float, float]:
    """Return the shares of the budget between which networks are derived.

    The better the model knows the device, the nearer to the budget. Where nothing can be measured
    the prediction itself is judged, so the smallest margin is enough.
    """
    margin = MARGIN[0]
    if run.target.runner is not None:
        rng = Random(0)
        networks = [run.space.architecture(run.space.random(rng)).blocks for _ in range(16)]
        found = model.predict(networks)
        share = float(np.median(found.bound_ms(CONFIDENCE) / found.mean_ms))
        margin = min(max(1 - 1 / share, MARGIN[0]), MARGIN[1])
    return 1 - margin - WIDTH, 1 - margin


def baseline_networks(space: SearchSpace, model: LatencyModel) -> list[Candidate]:
    """Return the space's baselines, each architecture once."""
    found: dict[str, Candidate] = {}
    for name, origin, one in space.baselines():
        if one.digest not in found:
            found[one.digest] = Candidate(
                name=name, origin=origin, architecture=one, **_prediction(one, model)
            )
    return list(found.values())


def measure(
    run: RunContext, model: LatencyModel, stage: str, files: dict[str, Path]
) -> dict[str, Measurement]:
    """Measure files (by their architectures' digests) interleaved; what is journaled is reused."""
    assert run.target.runner is not None
    known = run.folder.measured(stage)
    missing = {digest: path for digest, path in files.items() if digest not in known}
    if missing:
        measured = run.target.runner.measure(
            [Subject(digest, path) for digest, path in missing.items()],
            calibrated_reference_ms=calibration_of(run, model),
            seed=run.spec.seed,
        )
        for one in measured:
            run.folder.journal(stage, one.name, one)
    known = run.folder.measured(stage)
    return {digest: known[digest] for digest in files}


def calibration_of(run: RunContext, model: LatencyModel) -> float | None:
    """Return the reference's ms that measurements are scaled to; ``None``: this run's own clock."""
    return model.conditions.reference_ms if model.conditions and not run.spec.raw else None


def inherited_weights(run: RunContext, architecture: Architecture) -> Path:
    """Return the file of the weights that a network's training begins with, if it is there."""
    return run.folder.path / "search" / "inherited" / f"{architecture.digest}.safetensors"


def _judged(
    name: str,
    genotype: Genotype,
    run: RunContext,
    model: LatencyModel,
    strategy: Strategy,
    train: Data,
    valid: Data,
) -> Candidate:
    """Say what the latency model and the supernet say of a genotype."""
    network = strategy.network(genotype)
    architecture = run.space.architecture(genotype)
    if strategy.inherits(genotype):
        save_checkpoint(inherited_weights(run, architecture), network.state_dict(), {})
    recalibrate(network, train.drawn(RECALIBRATED // 2, run.spec.seed))
    return Candidate(
        name=name,
        origin="search",
        architecture=architecture,
        **_prediction(architecture, model),
        supernet_accuracy=accuracy(network, valid),
    )


def _prediction(architecture: Architecture, model: LatencyModel) -> dict[str, Any]:
    """Return the predicted fields of a `Candidate`; none where the model lacks a block."""
    try:
        return {
            "predicted_ms": model.network_ms(architecture.blocks),
            "predicted_std_ms": model.std_ms(architecture.blocks),
        }
    except HwnasError:
        return {"predicted_ms": None}


def _measured(
    run: RunContext, model: LatencyModel, found: list[Candidate], number: int
) -> list[Candidate]:
    """Measure all of ``found`` untrained: latency does not depend on the weights."""
    format = RUNTIMES[run.target.profile.runtime].format
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for one in found:
            architecture = one.architecture
            path = Path(scratch) / f"{architecture.digest}.{format}"
            compile_untrained(architecture.blocks, architecture.inputs, format, path)
            files[architecture.digest] = path
        measured = measure(run, model, f"screen-{number}", files)
    return [
        msgspec.structs.replace(
            one,
            measured_ms=measured[one.architecture.digest].median_ms,
            measured_high_ms=measured[one.architecture.digest].ci95_ms[1],
        )
        for one in found
    ]


def _probabilities(strategy: Strategy) -> Probabilities | None:
    preferred = strategy.preferences()
    if preferred is None:
        return None
    probs, costs = preferred
    return Probabilities(tuple(map(tuple, probs)), costs.mean_ms)
