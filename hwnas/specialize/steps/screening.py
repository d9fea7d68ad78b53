"""Screening after a round of search: derive networks, evaluate and measure them untrained."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from random import Random

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.limits import weights_fit
from hwnas.devices.runner import Subject
from hwnas.errors import ExportError
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import ModelFile, file_of, model_of
from hwnas.measurement.disturbance import Disturbed
from hwnas.measurement.measurement import Measurement
from hwnas.profiling.bench import compile_untrained
from hwnas.search.elastic.strategy import Elastic
from hwnas.search.strategy import Strategy
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.steps.baselines import (
    compared_networks,
    inherited_weights,
    predicted,
    sibling_networks,
)
from hwnas.training.checkpoint import save_checkpoint
from hwnas.training.evaluation import RECALIBRATION_IMAGES, accuracy, recalibrate
from hwnas.training.seeds import derived_seed

MIN_MARGIN, MAX_MARGIN = 0.02, 0.06
"""Bounds of the margin between budget and predicted latency, as shares of the budget. The latency
of a network varies by one or two percent between measurements, and the same seed should give the
same network."""
CONFIDENCE = 0.9
"""Probability with which a network within the margin keeps the budget."""
WINDOW_WIDTH = 0.03
"""Width of the window below the margin, as a share of the budget."""
SAMPLED_NETWORKS = 16
"""Random networks on which the uncertainty of the latency model is evaluated."""


class Probabilities(msgspec.Struct, frozen=True):
    """Probability and cost of each candidate at the end of the search: ``[P][K]`` each."""

    probs: tuple[tuple[float, ...], ...]
    cost_ms: tuple[tuple[float, ...], ...]


class ScreeningResult(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """The networks of a round: ``search/round-N.json``."""

    round: int
    candidates: tuple[Candidate, ...]
    model_file: ModelFile
    """The latency model that predicted the networks of this round."""
    probabilities: Probabilities | None

    @cached_property
    def model(self) -> LatencyModel:
        return model_of(self.model_file)


def screen(
    run: RunContext, strategy: Strategy, model: LatencyModel, number: int
) -> ScreeningResult:
    """Derive networks near the budget, evaluate them on the supernet and measure their latency."""
    seed = derived_seed(run.spec.seed, "derive", number)
    is_measured = run.target.runner is not None
    low_ms, high_ms = (share * run.budget_ms for share in window(run.space, model, is_measured))
    if model.costs(run.space).smallest_ms > high_ms:
        high_ms = run.budget_ms  # only the fastest networks keep it
    with run.folder.stage("choose"):
        genotypes = strategy.candidates(run.effort.screened, low_ms, high_ms, seed)
        searched = [
            _candidate(run, strategy, genotype, f"{number}.{rank}", model)
            for rank, genotype in enumerate(genotypes, 1)
        ]
        baselines = [
            _with_weights(run, strategy, baseline) for baseline in compared_networks(run, model)
        ]
        siblings = sibling_networks(run, model)
    candidates = networks_within_limits(run, [*searched, *baselines, *siblings])
    if is_measured:
        with run.console.step(f"measuring {len(candidates)} networks"), run.folder.stage("measure"):
            candidates = _measured(run, model, candidates, number)
    return ScreeningResult(
        round=number,
        candidates=tuple(candidates),
        model_file=file_of(model),
        probabilities=_probabilities(strategy),
    )


def networks_within_limits(run: RunContext, candidates: list[Candidate]) -> list[Candidate]:
    """Return the networks whose weights alone are not too large for the device."""
    profile = run.target.profile
    fitting = [each for each in candidates if weights_fit(each.architecture, profile)]
    if len(fitting) == len(candidates):
        return candidates
    limit = f"{profile.limits.model_bytes:,} bytes"
    run.console.say(
        f"{len(candidates) - len(fitting)} of {len(candidates)} networks are larger than the "
        f"{limit} that {profile.name} takes, and are left out"
    )
    if not any(each.origin == "search" for each in fitting):
        raise ExportError(
            f"the search gave no network with a file of at most {limit} ({profile.name}, [limits] "
            "model_bytes): a smaller --space, --precision int8 or a smaller budget may give one"
        )
    return fitting


def window(space: SearchSpace, model: LatencyModel, is_measured: bool) -> tuple[float, float]:
    """Return the shares of the budget between which the predicted latency of derived networks must
    lie.

    The more precise the model, the closer they are to the budget. If the device cannot be measured,
    predictions are compared with the budget, so the smallest margin is enough.
    """
    margin = MIN_MARGIN
    if is_measured:
        rng = Random(0)
        networks = [space.architecture(space.random(rng)).blocks for _ in range(SAMPLED_NETWORKS)]
        prediction = model.predict(networks)
        ratio = float(np.median(prediction.bound_ms(CONFIDENCE) / prediction.mean_ms))
        margin = min(max(1 - 1 / ratio, MIN_MARGIN), MAX_MARGIN)
    return 1 - margin - WINDOW_WIDTH, 1 - margin


def measure(
    run: RunContext,
    model: LatencyModel,
    stage: str,
    files: dict[str, Path],
    required: Collection[str],
) -> dict[str, Measurement]:
    """Measure the files of architectures, by their digests, interleaved.

    Measurements of this stage in the journal are reused. Networks whose measurement other programs
    disturbed too much are left out; raises `Disturbed` if one of the ``required`` digests is among
    them.
    """
    assert run.target.runner is not None
    known = run.folder.measured(stage)
    missing = {digest: path for digest, path in files.items() if digest not in known}
    if missing:
        conditions = None if run.spec.raw else model.conditions
        subjects = [Subject(digest, path) for digest, path in missing.items()]
        try:
            measurements = run.target.runner.measure(
                subjects,
                calibrated_reference_ms=None if conditions is None else conditions.reference_ms,
                seed=run.spec.seed,
            )
        except Disturbed as error:
            _journal(run, stage, error.measurements)
            if not run.folder.measured(stage).keys() >= set(required):
                raise Disturbed(
                    f"{error}; what was measured is stored, the same command with --resume "
                    "continues"
                ) from None
            measurements = ()
        _journal(run, stage, measurements)
    known = run.folder.measured(stage)
    return {digest: known[digest] for digest in files if digest in known}


def _journal(run: RunContext, stage: str, measurements: Sequence[Measurement | None]) -> None:
    for measurement in measurements:
        if measurement is not None:
            run.folder.journal(stage, measurement.name, measurement)


def _candidate(
    run: RunContext,
    strategy: Strategy,
    genotype: Genotype,
    number: str,
    model: LatencyModel,
) -> Candidate:
    """Return a derived network with its predicted latency and its accuracy on the supernet."""
    architecture = run.space.architecture(genotype)
    network = _save_inherited(run, strategy, genotype)
    supernet_accuracy = None
    if run.search_plan.trains_supernet:
        train, valid = run.images(architecture.input_shape)
        if strategy.traits.recalibrates:
            recalibrate(network, train.sample(RECALIBRATION_IMAGES // 2, run.spec.seed))
        supernet_accuracy = accuracy(network, valid)
    return Candidate(
        name=f"{run.spec.strategy} {number}",
        origin="search",
        architecture=architecture,
        **predicted(architecture, model),
        supernet_accuracy=supernet_accuracy,
        divergence=_divergence(strategy, genotype),
        inherits=strategy.inherits(genotype),
    )


def _divergence(strategy: Strategy, genotype: Genotype) -> float | None:
    return strategy.divergence.of(genotype) if isinstance(strategy, Elastic) else None


def _save_inherited(run: RunContext, strategy: Strategy, genotype: Genotype) -> nn.Module:
    """Return the network of a genotype; its weights are saved if its training starts from them."""
    network = strategy.network(genotype)
    if strategy.inherits(genotype):
        file = inherited_weights(run, run.space.architecture(genotype))
        save_checkpoint(file, network.state_dict(), {})
    return network


def _with_weights(run: RunContext, strategy: Strategy, baseline: Candidate) -> Candidate:
    """Save the weights that the training of a whole network at a resolution starts from."""
    if baseline.origin != "resolution":
        return baseline
    genotype = baseline.architecture.genotype
    _save_inherited(run, strategy, genotype)
    return msgspec.structs.replace(baseline, inherits=strategy.inherits(genotype))


def _measured(
    run: RunContext, model: LatencyModel, candidates: Sequence[Candidate], number: int
) -> list[Candidate]:
    """Measure all networks untrained: latency does not depend on the weights."""
    format = RUNTIMES[run.target.profile.runtime].format
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, Path] = {}
        for candidate in candidates:
            network = candidate.architecture
            files[network.digest] = Path(scratch) / f"{network.digest}.{format}"
            compile_untrained(network.blocks, network.inputs, files[network.digest])
        searched = {each.architecture.digest for each in candidates if each.origin == "search"}
        measurements = measure(run, model, f"screen-{number}", files, searched)
    report_disturbed(
        run, [each for each in candidates if each.architecture.digest not in measurements]
    )
    return [
        _with_latency(candidate, measurements.get(candidate.architecture.digest))
        for candidate in candidates
    ]


def report_disturbed(run: RunContext, candidates: Sequence[Candidate]) -> None:
    """Print the networks that have no latency because other programs disturbed it."""
    if candidates:
        names = ", ".join(candidate.name for candidate in candidates)
        run.console.say(f"not measured, since other programs disturbed it: {names}")


def _with_latency(candidate: Candidate, measurement: Measurement | None) -> Candidate:
    if measurement is None:
        return candidate
    return msgspec.structs.replace(
        candidate,
        measured_kind=measurement.kind,
        measured_ms=measurement.median_ms,
        measured_high_ms=measurement.ci95_ms[1],
    )


def _probabilities(strategy: Strategy) -> Probabilities | None:
    preferences = strategy.preferences()
    if preferences is None:
        return None
    probs, costs = preferences
    return Probabilities(tuple(map(tuple, probs)), costs.mean_ms)
