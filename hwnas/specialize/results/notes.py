"""The notes of a report for the user of a run's files."""

from __future__ import annotations

import re
from pathlib import Path

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.classification import chance_note
from hwnas.measurement.disturbance import doubt_line
from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.spaces.int8 import in_float
from hwnas.spaces.mobile.space import MobileSpace
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import RunContext
from hwnas.specialize.results.model_note import again_command, model_note
from hwnas.specialize.steps.deliver import DeliveryResult, TrainedCandidate
from hwnas.specialize.steps.screening import ScreeningResult


def notes_of(
    run: RunContext, screened: ScreeningResult, delivered: DeliveryResult
) -> tuple[str, ...]:
    """Return notes on the files, a training that failed, the device's clock, the latency table and
    the baselines."""
    measurement = delivered.chosen.measurement
    parity, total = delivered.artifacts[0].parity, len(run.dataset.test.labels)
    notes = [
        _input_note(run),
        *run.dataset.notes,
        count_note(parity.images if parity else total, total, run.dataset.score_name),
    ]
    if not run.search_plan.trains_supernet:
        notes.append(
            "There was no time for a search: the networks were drawn at random within the budget, "
            "by the latency model alone."
        )
    notes.append(failed_training_note(run, delivered))
    notes += _int8_notes(delivered)
    notes.append(model_note(run))
    if measurement is not None and abs(measurement.drift) > DRIFT_LIMIT:
        notes.append(
            f"The reference model's latency differs by {measurement.drift:+.0%} from its "
            "calibration: the speed of this machine has changed since. Ratios of latencies hold if "
            "its clock rate changed, but may be off if other virtual machines share its cores; "
            f"milliseconds are those of the calibration. `{again_command(run.spec)}` calibrates "
            "again."
        )
    if measurement is not None:
        notes.append(doubt_line([measurement]))
    if screened.model.kind == "table":
        notes.append(_bound_note(delivered, screened.model))
    notes += _better_baselines(run, delivered)
    notes += _close_rivals(run, delivered)
    return tuple(note for note in notes if note)


def _input_note(run: RunContext) -> str:
    data = run.dataset
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (data.mean, data.std))
    layout = RUNTIMES[run.target.profile.runtime].layout
    formula = "(pixel / 255 - mean) / std"
    inputs = f"pixels from 0 to 255 and compute {formula}" if run.spec.pixels else formula
    return (
        f"The files take {inputs}, batch 1, with the channels' mean {mean} and std {std}; "
        f"model.tflite in NHWC order, model.onnx in NCHW (here: {layout})."
    )


def count_note(verified: int, total: int, score: str = "accuracy") -> str:
    """Return a note on the number of test images on which the files were verified; empty if all
    were used."""
    if verified == total:
        return ""
    return (
        f"The files are verified, and their {score} is measured, on {verified:,} of {total:,} "
        "test images."
    )


def failed_training_note(run: RunContext, delivered: DeliveryResult) -> str:
    """Return a note if the delivered network is not better than chance; empty otherwise."""
    accuracy, data = delivered.chosen.result.validation_accuracy, run.dataset
    return chance_note(accuracy, data.valid.labels, data.score_name)


def _int8_notes(delivered: DeliveryResult) -> list[str]:
    notes = [
        f"{Path(artifact.path).name}: {len(artifact.float_layers)} layers stay in float32, where "
        f"int8 lost too much accuracy: {', '.join(artifact.float_layers)}."
        for artifact in delivered.artifacts
        if artifact.float_layers
    ]
    if any(artifact.precision == "int8" for artifact in delivered.artifacts):
        notes.insert(
            0,
            "The files are int8 by post-training quantisation, with ranges measured on training "
            "images. model.tflite takes and gives int8, with scale and zero point in its tensors; "
            "model.onnx takes and gives float32.",
        )
    return notes


def _bound_note(delivered: DeliveryResult, model: LatencyModel) -> str:
    logits = delivered.chosen.candidate.architecture.blocks[-1]
    if logits in model.rows_ms:
        return ""
    return (
        f"The table has no row for {logits.key!r}; the latency of the next larger classifier in "
        "the table is used, which is an upper bound."
    )


def _better_baselines(run: RunContext, delivered: DeliveryResult) -> list[str]:
    """Return a note for each baseline that beats the delivered network on validation images."""
    accuracy = delivered.chosen.result.validation_accuracy
    return [
        f"The baseline {baseline.candidate.name!r} reached "
        f"{baseline.result.validation_accuracy:.1%} on the validation images, the searched network "
        f"{accuracy:.1%}; its files are in training/{baseline.digest}/."
        + width_hint(run.space, run.spec.width_mults, baseline.candidate.name)
        for baseline in delivered.trained
        if not baseline.candidate.may_be_delivered
        and baseline.result.validation_accuracy > accuracy
    ]


def rivals(run: RunContext, delivered: DeliveryResult) -> list[TrainedCandidate]:
    """Return the other networks within the budget that could have been delivered."""
    return [
        each
        for each in delivered.trained
        if each is not delivered.chosen
        and each.candidate.may_be_delivered
        and (each.latency_ms or 0.0) <= run.budget_ms
    ]


def _close_rivals(run: RunContext, delivered: DeliveryResult) -> list[str]:
    """Return a note for each network within the budget that has a higher accuracy, or a higher
    probability of the labels, than the delivered network."""
    own, images = delivered.chosen.result, len(run.dataset.valid.labels)
    notes: list[str] = []
    for rival in rivals(run, delivered):
        other = rival.result
        if own.label_probability is None or other.label_probability is None:
            continue
        if other.label_probability > own.label_probability:
            why = "less than a standard error, and the cut network is preferred"
        elif other.validation_accuracy > own.validation_accuracy:
            why = "less than two standard errors in accuracy, and the probability decides"
        else:
            continue
        notes.append(
            f"{rival.candidate.name!r} reached {other.validation_accuracy:.1%} on the {images:,} "
            f"validation images, with a mean probability of their labels of "
            f"{other.label_probability:.1%}, the delivered network "
            f"{own.validation_accuracy:.1%} and {own.label_probability:.1%}: they differ by {why}. "
            f"The files of the other are in training/{rival.digest}/."
        )
    return notes


def width_hint(space: SearchSpace, width_mults: tuple[float, ...], baseline: str) -> str:
    """Return advice to search at the width of a uniform baseline such as ``uniform mb k3 e6 x2``.

    Empty if ``width_mults`` were given, or if the baseline is not wider than the space.
    """
    width = re.search(r" x([0-9.]+)$", baseline)
    if width is None or float(width[1]) <= 1 or width_mults:
        return ""
    if not isinstance(in_float(space), MobileSpace):
        return ""
    return f" It is wider than the space; `--width-mult 1,{width[1]}` also searches at its width."
