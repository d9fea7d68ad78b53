"""The last steps of a run: choose what to train, compile, verify, measure, deliver the best."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from msgspec.structs import replace

from hwnas.architecture.artifact import Artifact, Format
from hwnas.architecture.runtimes import COMPILED, RUNTIMES
from hwnas.devices.idle import waiting
from hwnas.devices.limits import unfit
from hwnas.devices.profile import profile_files, read_profile
from hwnas.devices.runner import Subject, open_runner, reference_sha256
from hwnas.errors import ExportError
from hwnas.export.metadata.manifest import export_manifest
from hwnas.files import write_atomic, write_json
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.store import calibration
from hwnas.measurement.disturbance import joined
from hwnas.measurement.measurement import Measurement
from hwnas.specialize.context import MIN_BUDGET_USE, Candidate, RunContext
from hwnas.specialize.steps.choice import delivered_result
from hwnas.specialize.steps.quantize import compile_trained, preprocessing
from hwnas.specialize.steps.screening import ScreeningResult, measure, report_disturbed
from hwnas.training.job import TrainingResult

MAX_DISAGREEMENT = 0.05
"""Relative difference of two measurements of a network above which it is measured again."""
MAX_TRAINED_FACTOR = 3
"""Most networks that are trained if files miss the budget, as a multiple of `Effort.trained`."""
MAX_SESSIONS = 3
"""Most sessions in which the trained files are measured."""


class TrainedCandidate(NamedTuple):
    """A trained network, its file for the target, and the measurement of that file."""

    candidate: Candidate
    result: TrainingResult
    artifact: Artifact
    measurement: Measurement | None

    @property
    def digest(self) -> str:
        return self.candidate.architecture.digest

    @property
    def latency_ms(self) -> float | None:
        """The measured latency if the target can be reached, else the predicted one."""
        if self.measurement is None:
            return self.candidate.predicted_ms
        return self.measurement.median_ms


class DeliveryResult(NamedTuple):
    """The network that a run delivers, and those from which it was chosen."""

    chosen: TrainedCandidate
    trained: tuple[TrainedCandidate, ...]
    """All trained networks, with the baselines."""
    artifacts: tuple[Artifact, ...]
    """The chosen network's files, the target's format first."""
    keeps_budget: bool | None
    """Whether the measured latency is within the budget; ``None`` if it was not measured."""


def choose_to_train(screened: ScreeningResult, run: RunContext) -> list[Candidate]:
    """Return the networks worth training: searched ones within the budget, then baselines.

    Of the networks within the budget, those that use most of it and keep it with their whole
    confidence interval come first, by the supernet's accuracy. If there are none, the fastest
    network is returned.
    """
    budget_ms, effort = run.budget_ms, run.effort
    within = [c for c in screened.candidates if c.latency_ms <= budget_ms]
    searched = [c for c in within if c.origin == "search"]
    searched.sort(
        key=lambda c: (
            c.latency_ms < MIN_BUDGET_USE * budget_ms,
            (c.measured_high_ms or c.latency_ms) > budget_ms,  # it may be within it by chance
            -(c.supernet_accuracy or 0.0),
        )
    )
    baselines = [c for c in within if c.origin != "search"]
    families: dict[str, Candidate] = {}
    for baseline in sorted(baselines, key=lambda c: c.latency_ms):
        families[baseline.name.rsplit(" ", 1)[0]] = baseline  # the slowest that keeps the budget
    # a whole trained network is what a user would ship without a search
    whole = [c for c in families.values() if c.origin in ("resolution", "sibling")]
    compared = [c for c in families.values() if c not in whole][: effort.baselines]
    chosen = searched[: effort.trained] + whole
    return (chosen or [_fastest(screened.candidates)]) + compared


def _fastest(candidates: Iterable[Candidate]) -> Candidate:
    return min((c for c in candidates if c.may_be_delivered), key=lambda c: c.latency_ms)


def further_candidates(
    screened: ScreeningResult, run: RunContext, delivered: DeliveryResult
) -> list[Candidate]:
    """Return networks to train as well, if the chosen file misses the budget or uses too little.

    The latencies of networks that were only screened are scaled by the median ratio of measured to
    screened latency of the trained files. Those that should then lie within the budget are
    returned, by the supernet's accuracy. Needs a device that can be measured.
    """
    measurement = delivered.chosen.measurement
    if measurement is None or measurement.kind == "emulated":
        return []
    trained = [t for t in delivered.trained if t.candidate.may_be_delivered]
    use = (delivered.chosen.latency_ms or 0.0) / run.budget_ms
    if MIN_BUDGET_USE <= use <= 1 or len(trained) >= MAX_TRAINED_FACTOR * run.effort.trained:
        return []
    ratios = [
        t.latency_ms / t.candidate.measured_ms
        for t in trained
        if t.measurement is not None and t.latency_ms and t.candidate.measured_ms
    ]
    if not ratios:
        return []
    budget_ms = run.budget_ms / median(ratios)
    known = {t.digest for t in delivered.trained}
    further = [
        c
        for c in screened.candidates
        if c.origin == "search"
        and c.architecture.digest not in known
        and c.measured_ms
        and MIN_BUDGET_USE * budget_ms <= c.measured_ms <= budget_ms
    ]
    further.sort(key=lambda c: -(c.supernet_accuracy or 0.0))
    return further[: run.effort.trained]


def deliver(
    run: RunContext, model: LatencyModel, chosen: list[Candidate], results: list[TrainingResult]
) -> DeliveryResult:
    """Compile and verify the trained networks, measure their files, and write the best one's.

    The best network is that of `delivered_result` within the budget, or else the fastest.
    """
    format = RUNTIMES[run.target.profile.runtime].format
    with run.console.step("compile, verify, measure"), run.folder.stage("deliver"):
        artifacts = [_compile(run, candidate, format) for candidate in chosen]
        measurements: dict[str, Measurement] = {}
        if run.target.runner is not None:
            measurements = _measure_agreeing(run, model, chosen, artifacts)
        trained = tuple(
            TrainedCandidate(
                candidate, result, artifact, measurements.get(candidate.architecture.digest)
            )
            for candidate, result, artifact in zip(chosen, results, artifacts, strict=True)
        )
        best = _best(run, files_within_limits(run, trained))
        files = _write_best(run, best)
        if run.target.profile.transport == "local":
            _measure_other_formats(run, files)
    keeps_budget = None
    if best.measurement is not None and best.measurement.kind != "emulated":
        keeps_budget = best.measurement.median_ms <= run.budget_ms
    return DeliveryResult(best, trained, files, keeps_budget)


def _compile(run: RunContext, candidate: Candidate, format: Format) -> Artifact:
    folder = run.folder.path / "training" / candidate.architecture.digest
    return compile_trained(run, candidate.architecture, format, folder / f"model.{format}")


def _measure_agreeing(
    run: RunContext, model: LatencyModel, chosen: list[Candidate], artifacts: list[Artifact]
) -> dict[str, Measurement]:
    """Measure the trained files, and all of them again while one disagrees with its screening, or
    has no latency since other programs disturbed it.

    The state of a machine can change within a minute (another program on the other core), which the
    ratio to the reference does not always absorb. The rounds of all sessions have equal weight. A
    baseline may remain without a latency; for a searched network `Disturbed` is raised.
    """
    digests = [candidate.architecture.digest for candidate in chosen]
    searched = {each.architecture.digest for each in chosen if each.origin == "search"}
    required = searched or set(digests)
    files = {d: Path(artifact.path) for d, artifact in zip(digests, artifacts, strict=True)}
    screened_ms = {d: candidate.measured_ms for d, candidate in zip(digests, chosen, strict=True)}
    measurements = measure(run, model, "final", files, required)
    for session in range(2, MAX_SESSIONS + 1):
        disagree = any(
            abs(m.median_ms / (screened_ms[digest] or m.median_ms) - 1) > MAX_DISAGREEMENT
            for digest, m in measurements.items()
        )
        if not disagree and len(measurements) == len(files):
            break
        cause = "disagrees with its screening" if disagree else "is disturbed by other programs"
        run.console.say(f"a latency {cause}: all files are measured again")
        again = measure(run, model, f"final-{session}", files, required if disagree else ())
        for digest, measurement in again.items():
            first = measurements.get(digest)
            measurements[digest] = measurement if first is None else joined(first, measurement)
    report_disturbed(run, [each for each in chosen if each.architecture.digest not in measurements])
    return measurements


def files_within_limits(
    run: RunContext, trained: tuple[TrainedCandidate, ...]
) -> tuple[TrainedCandidate, ...]:
    """Return the networks whose files the device accepts. Raises `ExportError` if it accepts no
    searched network."""
    fitting: list[TrainedCandidate] = []
    problems: list[str] = []
    for each in trained:
        problem = unfit(each.artifact, run.target.profile)
        if problem is None:
            fitting.append(each)
        else:
            problems.append(f"{each.artifact.path}: {problem}")
            run.console.say(f"{problems[-1]}; it is not delivered")
    if problems and not any(each.candidate.may_be_delivered for each in fitting):
        raise ExportError(f"{problems[0]}; no other file fits either")
    return tuple(fitting)


def _best(run: RunContext, trained: tuple[TrainedCandidate, ...]) -> TrainedCandidate:
    possible = [t for t in trained if t.candidate.may_be_delivered]
    if run.target.runner is not None:  # what others disturbed can't be said to keep the budget
        possible = [t for t in possible if t.measurement is not None]
    within = [t for t in possible if (t.latency_ms or 0.0) <= run.budget_ms]
    if not within:
        return min(possible, key=lambda t: t.latency_ms or 0.0)
    searched, whole = (
        [t.result for t in within if (t.candidate.origin == "search") == is_searched]
        for is_searched in (True, False)
    )
    best = delivered_result(searched, whole, len(run.dataset.valid.labels))
    return next(trained for trained in within if trained.result is best)


def _write_best(run: RunContext, best: TrainedCandidate) -> tuple[Artifact, ...]:
    """Write the chosen network in every format to ``export/``, the target's first.

    That file is a copy of the one that was verified and measured.
    """
    folder, architecture = run.folder.path / "export", best.candidate.architecture
    first = best.artifact.format
    path = folder / f"model.{first}"
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, Path(best.artifact.path).read_bytes())
    others = (
        compile_trained(run, architecture, format, folder / f"model.{format}")
        for format in COMPILED
        if format != first
    )
    files = (replace(best.artifact, path=str(path)), *others)
    write_json(run.folder.path / "search" / "architecture.json", architecture)
    document = export_manifest(files, preprocessing(run), architecture.input_shape)
    write_json(folder / "manifest.json", document)
    return files


def _measure_other_formats(run: RunContext, files: tuple[Artifact, ...]) -> None:
    """Journal the latency of the other formats in this machine's other runtimes."""
    profiles = [read_profile(file) for file in profile_files()]
    local = {p.runtime: p for p in profiles if p.transport == "local" and not p.gpu}
    for artifact in files[1:]:
        profile = local.get(artifact.runtime)  # type: ignore[call-overload]
        if profile is None or run.folder.measured(f"other-{artifact.runtime}"):
            continue
        profile = waiting(profile, run.spec.wait_idle_s)
        reference = reference_sha256(profile.runtime)
        with open_runner(profile) as runner:
            [measurement] = runner.measure(
                [Subject(artifact.format, Path(artifact.path))],
                calibrated_reference_ms=calibration(runner.probe(), reference),
            )
        run.folder.journal(f"other-{artifact.runtime}", artifact.format, measurement)
