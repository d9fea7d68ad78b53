"""The results file of the ranking study, as paragraphs and tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from tools.evaluate.exhaustive.problem import VALID_IMAGES
from tools.evaluate.exhaustive.ranking.figures import (
    LOW,
    TOP,
    Ranking,
    biases,
    random_regret,
    ranking,
    reliability,
)
from tools.evaluate.exhaustive.ranking.scores import Scores
from tools.evaluate.exhaustive.ranking.variants import VARIANTS, Variant
from tools.evaluate.exhaustive.table import Table
from tools.lib.results import sections, table

SCORE = f"label probability as it is, {VALID_IMAGES} images"
"""Score by which the variants are compared."""
COLUMNS = ["tau", "corrected", "Spearman", "tau near a budget", "regret: first", f"best of {TOP}"]


K = TypeVar("K")


class Judged(msgspec.Struct, frozen=True):
    """All networks, judged with one supernet: a line of ``ranking.jsonl``."""

    variant: str
    seed: int
    epoch: int
    cpu_s: float
    """Processor time of the training."""
    scores: Scores


def ranking_text(known: Table, lines: Sequence[Judged]) -> list[str]:
    if not lines:
        return ["No supernet was trained yet."]
    reliable, seeds = reliability(known), known.accuracies.shape[1]
    text = (
        f"Rankings of all {len(known.choices)} networks with the weights of a supernet, against "
        f"their mean test accuracy over the {seeds} seeds of the table (Kendall's tau-b, "
        "Spearman). What the noise of the table leaves: a single training of each has tau "
        f"{reliable.seed_tau:.2f} with the mean of the others; {reliable.share:.0%} of the "
        "variance of the means are the networks', so that the true accuracies themselves would "
        f"have tau {reliable.ceiling:.2f}. `corrected`: tau without that noise, if accuracies and "
        f"scores are normal. `tau near a budget`: among networks with {LOW:.0%} to 100 % of a "
        "budget, mean over three budgets and two runtimes; `regret`: what the first of them, and "
        f"the best of the first {TOP}, lose against the best of them, in points of accuracy; a "
        f"random one of them loses {random_regret(known):.2f}. Mean ± standard deviation over "
        "supernets. All networks are judged with the statistics of the batch, without others."
    )
    last = [line for line in lines if line.epoch == VARIANTS[line.variant].epochs]
    last.sort(key=lambda line: (list(VARIANTS).index(line.variant), line.seed))
    parts = [
        (f"Variants, by the {SCORE}", _variants(known, last)),
        ("Scores", _scores(known, last)),
        ("Bias", _biases(known, last)),
    ]
    if any(VARIANTS[line.variant].marks for line in lines):
        parts.append(("Epochs", _epochs(known, lines)))
    return [text, sections(parts)]


def _variants(known: Table, lines: Sequence[Judged]) -> str:
    rows: list[list[object]] = []
    for name, taken in _by(lines, lambda line: line.variant).items():
        cells = _cells([ranking(known, line.scores[SCORE]) for line in taken])
        cpu_s = f"{np.mean([line.cpu_s for line in taken]):.0f}"
        rows.append([name, _differences(VARIANTS[name]), len(taken), *cells, cpu_s])
    return table(["variant", "differs in", "supernets", *COLUMNS, "core-seconds"], rows)


def _differences(variant: Variant) -> str:
    """Return the fields of a variant that are not the default."""
    default = Variant()
    changed = {
        name: value
        for name in Variant.__struct_fields__
        if name != "marks" and (value := getattr(variant, name)) != getattr(default, name)
    }
    return ", ".join(f"{name} {value}" for name, value in changed.items()) or "nothing"


def _epochs(known: Table, lines: Sequence[Judged]) -> str:
    rows: list[list[object]] = []
    marked = [line for line in lines if VARIANTS[line.variant].marks]
    for (name, epoch), taken in sorted(
        _by(marked, lambda line: (line.variant, line.epoch)).items()
    ):
        cells = _cells([ranking(known, line.scores[SCORE]) for line in taken])
        accuracy = np.mean(
            [np.mean(line.scores[f"accuracy, {VALID_IMAGES} images"]) for line in taken]
        )
        rows.append([name, epoch, len(taken), *cells, f"{100 * accuracy:.1f}"])
    return table(["variant", "epoch", "supernets", *COLUMNS, "mean accuracy, %"], rows)


def _scores(known: Table, lines: Sequence[Judged]) -> str:
    """Return the figures of each score: over all variants, and with averaged statistics beside
    those of the batch."""
    both = [line for line in lines if VARIANTS[line.variant].statistics]
    common = [name for name in lines[0].scores if all(name in line.scores for line in lines)]
    rows: list[list[object]] = []
    for title, taken, names in (
        ("all", lines, common),
        ("averaged statistics", both, both[0].scores if both else ()),
    ):
        for name in names:
            cells = _cells([ranking(known, line.scores[name]) for line in taken])
            rows.append([title, name, len(taken), *cells])
    return table(["variants", "score", "supernets", *COLUMNS], rows)


def _biases(known: Table, lines: Sequence[Judged]) -> str:
    """Return the mean biases of the variants, one column each."""
    groups = _by(lines, lambda line: line.variant)
    columns = {
        name: [biases(known, line.scores[SCORE]) for line in taken]
        for name, taken in groups.items()
    }
    first = next(iter(columns.values()))[0]
    rows = [
        [name, *(f"{np.mean([bias[name] for bias in each]):+.2f}" for each in columns.values())]
        for name in first
    ]
    text = (
        "By how many standard deviations of all networks a candidate is rated too high, against "
        "the first candidate of its decision (least squares on score minus truth, both "
        "standardised).\n\n"
    )
    return text + table(["candidate", *columns], rows)


def _by(lines: Sequence[Judged], key: Callable[[Judged], K]) -> dict[K, list[Judged]]:
    groups: dict[K, list[Judged]] = {}
    for line in lines:
        groups.setdefault(key(line), []).append(line)
    return groups


def _cells(rankings: Sequence[Ranking]) -> list[str]:
    columns = zip(*rankings, strict=True)
    return [_mean_and_std(column) for column in columns]


def _mean_and_std(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"
