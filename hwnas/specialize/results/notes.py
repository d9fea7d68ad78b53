"""What the user of a run's files should know, in words."""

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
from hwnas.specialize.steps.deliver import Delivered
from hwnas.specialize.steps.screening import Screened


def _int8_notes(delivered: Delivered) -> list[str]:
    notes = [
        f"{Path(one.path).name}: {len(one.float_layers)} layers stay in float32, where int8 lost "
        f"too much accuracy: {', '.join(one.float_layers)}."
        for one in delivered.artifacts
        if one.float_layers
    ]
    if any(one.precision == "int8" for one in delivered.artifacts):
        notes.insert(
            0,
            "The files are int8 by post-training quantisation with ranges measured on training "
            "images. model.tflite takes and gives int8: its tensors say scale and zero point; "
            "model.onnx takes and gives float32.",
        )
    return notes


def notes_of(run: RunContext, screened: Screened, delivered: Delivered) -> tuple[str, ...]:
    """Return what a run's report says of its files, its device's clock, its table and baselines."""
    data = run.dataset
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in (data.mean, data.std))
    layout = RUNTIMES[run.target.profile.runtime].layout
    taken = "(pixel / 255 - mean) / std"
    if run.spec.pixels:
        taken = f"pixels from 0 to 255 and make {taken} of them"
    notes = [
        f"The files take {taken}, batch 1, with mean {mean} and "
        f"std {std} of the channels; model.tflite in NHWC order, model.onnx in NCHW "
        f"(here: {layout}).",
        *data.notes,
    ]
    notes += _int8_notes(delivered)
    measurement = delivered.chosen.measurement
    if measurement is not None and abs(measurement.drift) > DRIFT_LIMIT:
        notes.append(
            f"The reference model ran {measurement.drift:+.0%} against its calibration: this "
            "machine's speed has changed since, the ratios hold, the milliseconds are those of "
            "the calibration. `hwnas latency measure --again` settles it."
        )
    if screened.model.kind == "table":
        notes.append(_bound_note(run, screened.model))
    notes += _better_baselines(run, delivered)
    return tuple(note for note in notes if note)


def _bound_note(run: RunContext, model: LatencyModel) -> str:
    logits = run.space.fixed[-1]
    if logits in model.rows_ms:
        return ""
    return (
        f"The table has no row for {logits.key!r}; the classifier is charged as the table's next "
        "larger one, which is an upper bound."
    )


def _better_baselines(run: RunContext, delivered: Delivered) -> list[str]:
    """Say it where a baseline beat the searched one on validation images."""
    chosen, asked = delivered.chosen.result.validation_accuracy, run.spec.width_mult
    return [
        f"The baseline {one.candidate.name!r} reached {one.result.validation_accuracy:.1%} on the "
        f"validation images, the searched network {chosen:.1%}; its files are in "
        f"training/{one.candidate.architecture.digest}/."
        f"{width_hint(run.space, asked, one.candidate.name)}"
        for one in delivered.trained
        if one.candidate.origin != "search" and one.result.validation_accuracy > chosen
    ]


def width_hint(space: SearchSpace, searched: str, baseline: str) -> str:
    """Return how to search at a uniform baseline's width; nothing where its widths were searched.

    ``searched`` is the run's --width-mult, ``baseline`` a name like ``uniform mb k3 e6 x2``.
    """
    found = re.search(r" x([0-9.]+)$", baseline)
    if found is None or float(found[1]) <= 1 or searched:
        return ""
    if not isinstance(in_float(space), MobileSpace):
        return ""
    return f" It is wider than the space: `--width-mult 1,{found[1]}` searches at its width, too."
