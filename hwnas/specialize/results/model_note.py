"""Notes on latency models that disagree with the networks that a run measured."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from hwnas.errors import InvalidFile
from hwnas.files import read_json
from hwnas.latency_models.storage.store import measured_folder
from hwnas.profiling.setup import latency_command
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.steps.screening import ScreeningResult

INSIDE_STDS = 1.645
"""Half of a 90 % interval in standard deviations."""
MIN_NETWORKS = 5
MIN_SHARE_INSIDE = 0.5
"""Least share of networks inside their 90 % interval. Networks are chosen for a low prediction, so
fewer than 90 % are inside even if the model is right."""
MIN_RELATIVE_DIFFERENCE = 0.05
"""Least relative difference of the measurements from the predictions that is noted; smaller ones
have little effect."""


def model_note(run: RunContext) -> str:
    """Return a note if the first measurements of a run contradict the model; else nothing.

    Only the first round counts, as the models of later rounds are fitted to measurements of the
    run.
    """
    try:
        path = run.folder.path / "search" / "round-1.json"
        candidates = read_json(path, ScreeningResult).candidates
    except InvalidFile:
        return ""
    text = disagreement(candidates)
    if not text:
        return ""
    return (
        f"The latency model of {run.target.profile.name} is off: {text}. The networks were "
        f"measured, so the verdict holds; {_advice(run)}."
    )


def disagreement(candidates: Iterable[Candidate]) -> str:
    """Return a text on the difference between measurements and predictions; empty if they agree."""
    pairs = [
        (each.measured_ms, each.predicted_ms, each.predicted_std_ms)
        for each in candidates
        if each.measured_ms and each.predicted_ms and each.predicted_std_ms is not None
    ]
    if len(pairs) < MIN_NETWORKS:
        return ""
    inside = sum(abs(got - mean) <= INSIDE_STDS * std for got, mean, std in pairs)
    factor = median(got / mean for got, mean, _ in pairs)
    if inside >= MIN_SHARE_INSIDE * len(pairs) or abs(factor - 1) < MIN_RELATIVE_DIFFERENCE:
        return ""
    return (
        f"{inside} of {len(pairs)} measured networks lie within its 90 % intervals, and in the "
        f"median they take {factor:.2f} times as long as it predicts"
    )


def again_command(spec: RunSpec) -> str:
    """Return the command that measures the latency model of a run anew."""
    words = spec.target, spec.space, spec.data, spec.precision, spec.resolution
    return f"{latency_command('measure', *words)} --again"


def _advice(run: RunContext) -> str:
    spec = run.spec
    if spec.latency_model:
        return f"it was given by --latency-model {spec.latency_model}"
    if spec.width_mults or spec.starts_trained:
        folder = measured_folder(run.target.profile.name, run.space)
        return f"without the folder {folder} the next run measures a new one"
    return f"`{again_command(spec)}` makes a new one for the runs to come"
