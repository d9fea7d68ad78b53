"""The notes of a report: what the user of a run's files should know."""

from __future__ import annotations

import re
from pathlib import Path

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import DRIFT_LIMIT
from hwnas.spaces.int8 import in_float
from hwnas.spaces.mobile.space import MobileSpace
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import RunContext
from hwnas.specialize.steps.deliver import DeliveryResult
from hwnas.specialize.steps.screening import ScreeningResult


def notes_of(
    run: RunContext, screened: ScreeningResult, delivered: DeliveryResult
) -> tuple[str, ...]:
    """Return notes on the files, the device's clock, the latency table and the baselines."""
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
    notes += _int8_notes(delivered)
    if measurement is not None and abs(measurement.drift) > DRIFT_LIMIT:
        notes.append(
            f"The reference model ran {measurement.drift:+.0%} against its calibration: the speed "
            "of this machine has changed since. Ratios of latencies hold; milliseconds are those "
            "of the calibration. `hwnas latency measure --again` calibrates anew."
        )
    if screened.model.kind == "table":
        notes.append(_bound_note(delivered, screened.model))
    notes += _better_baselines(run, delivered)
    notes += _not_told_apart(run, delivered)
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
    """Return on how many test images the files were verified; empty if on all."""
    if verified == total:
        return ""
    return (
        f"The files are verified, and their {score} is measured, on {verified:,} of {total:,} "
        "test images."
    )


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


def _not_told_apart(run: RunContext, delivered: DeliveryResult) -> list[str]:
    """Return a note for each network within the budget of a higher accuracy than the delivered."""
    own, images = delivered.chosen.result, len(run.dataset.valid.labels)
    return [
        f"{other.candidate.name!r} reached {other.result.validation_accuracy:.1%} on the "
        f"validation images, the delivered network {own.validation_accuracy:.1%}: a difference "
        f"below two standard errors for {images:,} images. The delivered network gives their "
        f"labels the higher probability, {own.label_probability:.1%} against "
        f"{other.result.label_probability:.1%} in the mean; the files of the other are in "
        f"training/{other.digest}/."
        for other in delivered.trained
        if other.candidate.may_be_delivered
        and (other.latency_ms or 0.0) <= run.budget_ms
        and own.label_probability is not None
        and other.result.label_probability is not None
        and other.result.label_probability < own.label_probability
        and other.result.validation_accuracy > own.validation_accuracy
    ]


def width_hint(space: SearchSpace, width_mults: tuple[float, ...], baseline: str) -> str:
    """Return advice to search at the width of a uniform baseline such as ``uniform mb k3 e6 x2``.

    Empty if the run was given its ``width_mults``, or the baseline is not wider than the space.
    """
    width = re.search(r" x([0-9.]+)$", baseline)
    if width is None or float(width[1]) <= 1 or width_mults:
        return ""
    if not isinstance(in_float(space), MobileSpace):
        return ""
    return f" It is wider than the space; `--width-mult 1,{width[1]}` also searches at its width."
