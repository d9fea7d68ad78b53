"""The report of a run, from its results."""

from __future__ import annotations

import os
import platform

import msgspec

from hwnas import __version__
from hwnas.devices.fingerprint import hardware
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import local_time
from hwnas.report.accuracy import (
    Accuracy,
    ClassAccuracy,
)
from hwnas.report.architecture import ArchitectureSummary
from hwnas.report.latency import Latency, LatencyModelSummary
from hwnas.report.report import Report
from hwnas.report.schema import (
    DatasetSummary,
    Result,
    SearchPoint,
    Verdict,
)
from hwnas.search.log import read_log
from hwnas.search.plan import SearchFiles
from hwnas.specialize.card import data_card
from hwnas.specialize.command_line import command_line
from hwnas.specialize.context import RunContext
from hwnas.specialize.results.next_commands import next_commands
from hwnas.specialize.results.notes import notes_of, rivals
from hwnas.specialize.results.rows import (
    artifact_row,
    block_rows,
    candidate_rows,
    cell_rows,
    family_rows,
    other_row,
)
from hwnas.specialize.run_folder import versions
from hwnas.specialize.setup.budget import latency_range
from hwnas.specialize.steps.deliver import DeliveryResult, TrainedCandidate
from hwnas.specialize.steps.screening import ScreeningResult

CURVE_POINTS = 400
"""Most points of a search's log that the report holds."""


def compose(run: RunContext, screened: ScreeningResult, delivered: DeliveryResult) -> Report:
    """Return the report of a finished run."""
    spec, result = run.spec, _result(run, screened, delivered)
    if run.dataset.answers_of:
        result = result.as_agreement()
    stages = run.folder.stages()
    return Report(
        command=command_line(spec),
        hwnas_version=__version__,
        created=local_time(),
        seed=spec.seed,
        effort=spec.effort,
        results=(result,),
        stages_s={name: time.seconds for name, time in stages.items()},
        stages_cpu_s={name: time.cpu_s for name, time in stages.items()},
        environment=_environment(),
        dataset=_dataset(run),
        search=_curve(run),
        commands=next_commands(spec, run.folder.path, [result]),
        notes=notes_of(run, screened, delivered),
    )


def _result(run: RunContext, screened: ScreeningResult, delivered: DeliveryResult) -> Result:
    chosen, profile, model = delivered.chosen, run.target.profile, screened.model
    verdicts: dict[bool | None, Verdict] = {True: "kept", False: "missed", None: "not measured"}
    return Result(
        target=profile.name,
        title=profile.title,
        runtime=profile.runtime,
        precision=run.spec.precision,
        budget_ms=run.budget_ms,
        verdict=verdicts[delivered.keeps_budget],
        reason=_reason(run, delivered),
        range_ms=latency_range(run.space, model.costs(run.space)),
        architecture=ArchitectureSummary.from_architecture(
            chosen.candidate.architecture,
            block_rows(run.space, chosen.candidate.architecture, model, screened.probabilities),
            cell_rows(run.space, chosen.candidate.architecture, model, screened.probabilities),
        ),
        latency=_latency(chosen, model),
        accuracy=_accuracy(run, delivered),
        other_runtimes=tuple(other_row(run, artifact) for artifact in delivered.artifacts[1:]),
        artifacts=tuple(artifact_row(run, artifact) for artifact in delivered.artifacts),
        rounds=screened.round,
        candidates=candidate_rows(run, screened, delivered),
        latency_model=_model(model),
        family=family_rows(run, screened, delivered),
    )


def _reason(run: RunContext, delivered: DeliveryResult) -> str:
    chosen = delivered.chosen
    if chosen.measurement is None:
        return (
            f"{run.target.profile.name} cannot be reached from here: the latency is the sum of a "
            "table's rows; nothing was measured."
        )
    share = chosen.measurement.median_ms / run.budget_ms
    kind = chosen.measurement.kind
    if delivered.keeps_budget:
        return (
            f"The {kind} median is {share:.1%} of the budget; of the networks that keep the budget "
            f"{_advantage(run, delivered)} on the validation images."
        )
    return f"No trained network keeps the budget; the fastest is {share - 1:.1%} over it ({kind})."


def _advantage(run: RunContext, delivered: DeliveryResult) -> str:
    """Return the criterion by which the delivered network was chosen among those within the
    budget."""
    own, score = delivered.chosen.result, run.dataset.score_name
    others = [each.result for each in rivals(run, delivered)]
    if any((each.label_probability or 0.0) > (own.label_probability or 0.0) for each in others):
        return "no whole one is better than this one, which was cut, by a standard error"
    if any(each.validation_accuracy > own.validation_accuracy for each in others):
        return (
            f"this one has the highest probability of the labels, with {score} within two standard "
            "errors of the highest,"
        )
    return f"this one has the highest {score}"


def _latency(chosen: TrainedCandidate, model: LatencyModel) -> Latency:
    predicted_ms = chosen.candidate.predicted_ms or 0.0
    std_ms = chosen.candidate.predicted_std_ms
    if chosen.measurement is None:
        return Latency(
            kind="table" if model.kind == "table" else "predicted",
            median_ms=predicted_ms,
            predicted_ms=predicted_ms,
            predicted_std_ms=std_ms,
            source=model.source,
        )
    return Latency.from_measurement(
        chosen.measurement,
        predicted_ms=predicted_ms,
        predicted_std_ms=std_ms,
        source=f"the delivered file, {chosen.measurement.kind} in this run",
    )


def _accuracy(run: RunContext, delivered: DeliveryResult) -> Accuracy | None:
    parity = delivered.artifacts[0].parity
    if parity is None or parity.accuracy_torch is None or parity.accuracy_artifact is None:
        return None
    return Accuracy.with_interval(
        parity.images,
        torch=parity.accuracy_torch,
        artifact=parity.accuracy_artifact,
        validation=delivered.chosen.result.validation_accuracy,
        top5=parity.top5_artifact,
        balanced=parity.balanced_artifact,
        hits=parity.hits,
        classes=_class_accuracies(run.dataset.classes, parity.class_accuracies),
    )


def _class_accuracies(
    names: tuple[str, ...], accuracies: tuple[float | None, ...]
) -> tuple[ClassAccuracy, ...]:
    """Return the accuracy of each class, the lowest first."""
    pairs = zip(names, accuracies, strict=True) if accuracies else ()
    rows = [ClassAccuracy(name, value) for name, value in pairs if value is not None]
    return tuple(sorted(rows, key=lambda row: row.accuracy))


def _model(model: LatencyModel) -> LatencyModelSummary:
    error = model.held_out
    return LatencyModelSummary(
        kind=model.kind,
        source=model.source,
        made=model.made,
        blocks=len(model.rows_ms),
        networks=len(model.networks),
        held_out=None if error is None else error.networks,
        within_5=None if error is None else error.within_5,
        within_10=None if error is None else error.within_10,
        rmspe=None if error is None else error.rmspe,
        spearman=None if error is None else error.spearman,
        covered_90=None if error is None else error.covered_90,
        reference_ms=None if model.conditions is None else model.conditions.reference_ms,
    )


def _curve(run: RunContext) -> tuple[SearchPoint, ...]:
    """Return an even sample of the search's log, with every eigenvalue that was computed."""
    lines = read_log(SearchFiles.of_run(run.folder.path).log)
    every = max(1, len(lines) // CURVE_POINTS)
    return tuple(
        msgspec.structs.replace(
            msgspec.convert(line, SearchPoint, from_attributes=True),
            budget_ms=run.budget_ms,
            target=run.target.profile.name,
        )
        for number, line in enumerate(lines)
        if number % every == 0 or line.eigenvalue is not None
    )


def _environment() -> dict[str, str | int | float | None]:
    load = round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None
    return {
        "python": platform.python_version(),
        **versions(),
        "hardware": hardware(),
        "system": platform.platform(),
        "load at the end": load,
    }


def _dataset(run: RunContext) -> DatasetSummary:
    data = run.dataset
    return DatasetSummary(
        name=data.name,
        digest=data.digest,
        classes=data.num_classes,
        train=len(data.train.labels),
        valid=len(data.valid.labels),
        test=len(data.test.labels),
        input_shape=data.input_shape,
        answers_of=data.answers_of,
        group_by=run.spec.group_by,
        card=data_card(data),
    )
