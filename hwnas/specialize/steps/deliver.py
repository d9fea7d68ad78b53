"""The last steps: choose what is worth training, compile, verify, measure, choose."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec

from hwnas.architecture.artifact import Artifact, Format
from hwnas.architecture.runtimes import COMPILED, RUNTIMES
from hwnas.devices.limits import unfit
from hwnas.devices.profile import profile_files, read_profile
from hwnas.devices.runner import Subject, file_sha256, open_runner, reference_file
from hwnas.errors import ExportError, HwnasError
from hwnas.export.metadata.manifest import manifest
from hwnas.files import write_json
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.store import calibration
from hwnas.measurement.measurement import Measurement
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.steps.quantize import compile_trained, preprocessing
from hwnas.specialize.steps.screening import Screened, measure
from hwnas.specialize.steps.search_rounds import FAR_UNDER
from hwnas.specialize.steps.train_job import TrainResult

DISAGREEMENT = 0.05
"""Relative difference of two measurements of one network from which a third is wanted."""

ATTEMPTS = 3
"""At most so many times the networks that the effort names are trained where files miss."""

SESSIONS = 3
"""The delivered files are measured in at most so many processes."""


class Trained(NamedTuple):
    """A trained network, its file for the target, and what was measured of that file."""

    candidate: Candidate
    result: TrainResult
    artifact: Artifact
    measurement: Measurement | None

    @property
    def latency_ms(self) -> float | None:
        """Measured where the target can be, else predicted."""
        return (
            self.candidate.predicted_ms if self.measurement is None else self.measurement.median_ms
        )


class Delivered(NamedTuple):
    """What a run hands over."""

    chosen: Trained
    trained: tuple[Trained, ...]
    """All, the baselines included."""
    artifacts: tuple[Artifact, ...]
    """The chosen network's files, the target's format first."""
    kept: bool | None
    """Whether the budget was kept when measured; ``None``: not measured."""


def choose_to_train(screened: Screened, run: RunContext) -> list[Candidate]:
    """Return the networks worth training: searched ones inside the budget, then baselines.

    Of those that keep the budget, first the ones that use most of it and keep it with their whole
    confidence interval, by the supernet's accuracy; where none keeps it, the fastest.
    """
    budget_ms, effort = run.budget_ms, run.effort
    searched = [one for one in screened.candidates if one.origin == "search"]

    def latency_ms(one: Candidate) -> float:
        known = one.predicted_ms if one.measured_ms is None else one.measured_ms
        return float("inf") if known is None else known

    inside = [one for one in searched if latency_ms(one) <= budget_ms]
    inside.sort(
        key=lambda one: (
            latency_ms(one) < FAR_UNDER * budget_ms,
            (one.measured_high_ms or latency_ms(one)) > budget_ms,  # kept by luck, perhaps
            -_promise(one),
        )
    )
    chosen = inside[: effort.trained] or [min(searched, key=latency_ms)]
    hand_made = [
        one
        for one in screened.candidates
        if one.origin != "search" and latency_ms(one) <= budget_ms
    ]
    families: dict[str, Candidate] = {}
    for one in sorted(hand_made, key=latency_ms):  # the slowest of each family that still keeps it
        families[one.name.rsplit(" ", 1)[0]] = one
    return chosen + list(families.values())[: effort.baselines]


def also_worth_training(
    screened: Screened, run: RunContext, delivered: Delivered
) -> list[Candidate]:
    """Return further networks where the chosen file misses the budget or stays far under it.

    What the trained files showed (median of measured over screened latency) is held against the
    networks that were screened but not trained; those that should lie within the budget are worth
    it, by the supernet's accuracy. Only where the device can be measured.
    """
    if delivered.chosen.measurement is None or delivered.chosen.measurement.kind == "emulated":
        return []
    known = {one.candidate.architecture.digest for one in delivered.trained}
    trained = [one for one in delivered.trained if one.candidate.origin == "search"]
    used = (delivered.chosen.latency_ms or 0.0) / run.budget_ms
    if FAR_UNDER <= used <= 1 or len(trained) >= ATTEMPTS * run.effort.trained:
        return []
    shifts = [
        one.latency_ms / one.candidate.measured_ms
        for one in trained
        if one.latency_ms and one.candidate.measured_ms
    ]
    if not shifts:
        return []
    shift = median(shifts)
    waiting = [
        (shift * one.measured_ms / run.budget_ms, one)
        for one in screened.candidates
        if one.origin == "search" and one.measured_ms and one.architecture.digest not in known
    ]
    inside = [(share, one) for share, one in waiting if FAR_UNDER <= share <= 1]
    inside.sort(key=lambda pair: -_promise(pair[1]))
    return [one for _, one in inside[: run.effort.trained]]


def deliver(
    run: RunContext, model: LatencyModel, chosen: list[Candidate], results: list[TrainResult]
) -> Delivered:
    """Compile and verify every trained network, measure the files, choose by validation accuracy.

    The choice is the most accurate searched network whose measured median keeps the budget; where
    none does, the fastest.
    """
    format = RUNTIMES[run.target.profile.runtime].format
    with run.console.step("compile, verify, measure"), run.folder.stage("deliver"):
        artifacts = [_compile(run, one, format) for one in chosen]
        measured: dict[str, Measurement] = {}
        if run.target.runner is not None:
            files = {
                one.architecture.digest: Path(artifact.path)
                for one, artifact in zip(chosen, artifacts, strict=True)
            }
            measured = _measure_agreeing(run, model, chosen, files)
        trained = tuple(
            Trained(one, result, artifact, measured.get(one.architecture.digest))
            for one, result, artifact in zip(chosen, results, artifacts, strict=True)
        )
        best = _choose(_fitting(run, trained), run.budget_ms)
        files = _final_files(run, best)
        if run.target.profile.transport == "local":
            _measure_elsewhere(run, files)
    kept = None
    if best.measurement is not None and best.measurement.kind != "emulated":
        kept = best.measurement.median_ms <= run.budget_ms
    return Delivered(best, trained, files, kept)


def _measure_agreeing(
    run: RunContext, model: LatencyModel, chosen: list[Candidate], files: dict[str, Path]
) -> dict[str, Measurement]:
    """Measure the trained files; again, all of them, while one disagrees with its screening.

    A machine can be in another state than a minute ago (another program on the other core), which
    the ratio to the reference does not always absorb. All rounds of all sessions count alike.
    """
    screened_ms = {one.architecture.digest: one.measured_ms for one in chosen}
    measured = measure(run, model, "final", files)
    for session in range(2, SESSIONS + 1):
        if all(
            abs(one.median_ms / (screened_ms[digest] or one.median_ms) - 1) <= DISAGREEMENT
            for digest, one in measured.items()
        ):
            break
        run.console.say("a latency disagrees with its screening: all files are measured again")
        again = measure(run, model, f"final-{session}", files)
        measured = {
            digest: msgspec.structs.replace(one, rounds=one.rounds + again[digest].rounds)
            for digest, one in measured.items()
        }
    return measured


def _fitting(run: RunContext, trained: tuple[Trained, ...]) -> tuple[Trained, ...]:
    """Return the networks whose files the device takes. Raises `ExportError` where none is."""
    problems = [unfit(one.artifact, run.target.profile) for one in trained]
    for one, problem in zip(trained, problems, strict=True):
        if problem is not None:
            run.console.say(f"{one.artifact.path}: {problem}; it is not delivered")
    kept = tuple(one for one, why in zip(trained, problems, strict=True) if why is None)
    if len(kept) < len(trained) and not any(one.candidate.origin == "search" for one in kept):
        path, problem = next(
            (one.artifact.path, why) for one, why in zip(trained, problems, strict=True) if why
        )
        raise ExportError(f"{path}: {problem}; no other file fits either")
    return kept


def _choose(trained: tuple[Trained, ...], budget_ms: float) -> Trained:
    searched = [one for one in trained if one.candidate.origin == "search"]
    inside = [one for one in searched if (one.latency_ms or 0.0) <= budget_ms]
    if inside:
        return max(inside, key=lambda one: one.result.validation_accuracy)
    return min(searched, key=lambda one: one.latency_ms or 0.0)


def _promise(one: Candidate) -> float:
    return one.supernet_accuracy or 0.0


def _compile(run: RunContext, one: Candidate, format: Format) -> Artifact:
    folder = run.folder.path / "training" / one.architecture.digest
    return compile_trained(run, one.architecture, format, folder / f"model.{format}")


def _final_files(run: RunContext, best: Trained) -> tuple[Artifact, ...]:
    """Write the chosen network in every format to ``export/``, the target's first."""
    folder = run.folder.path / "export"
    architecture = best.candidate.architecture
    first = RUNTIMES[run.target.profile.runtime].format
    formats = sorted(COMPILED, key=lambda format: format != first)
    files = [
        compile_trained(run, architecture, format, folder / f"model.{format}") for format in formats
    ]
    if files[0].sha256 != best.artifact.sha256:
        raise HwnasError(f"{files[0].path}: compiling the same network twice gave two files")
    write_json(run.folder.path / "search" / "architecture.json", architecture)
    said = manifest(tuple(files), preprocessing(run), architecture.input_shape)
    write_json(folder / "manifest.json", said)
    return tuple(files)


def _measure_elsewhere(run: RunContext, files: tuple[Artifact, ...]) -> None:
    """Journal the other formats' latency in this machine's other runtimes; it judges nothing."""
    profiles = [read_profile(file) for file in profile_files()]
    others = {one.runtime: one for one in profiles if one.transport == "local" and not one.gpu}
    for artifact in files[1:]:
        profile = others.get(artifact.runtime)  # type: ignore[call-overload]
        if profile is None or run.folder.measured(f"other-{artifact.runtime}"):
            continue
        runner = open_runner(profile)
        reference = file_sha256(reference_file(profile.runtime))
        [measured] = runner.measure(
            [Subject(artifact.format, Path(artifact.path))],
            calibrated_reference_ms=calibration(runner.probe(), reference),
        )
        run.folder.journal(f"other-{artifact.runtime}", artifact.format, measured)
