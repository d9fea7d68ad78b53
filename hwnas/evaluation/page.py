"""The result of an evaluation as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from hwnas import __version__
from hwnas.evaluation.confusion import confusion_svg
from hwnas.evaluation.evaluate import EvaluationRun
from hwnas.evaluation.result import Confusion, ImageResult
from hwnas.measurement.measurement import local_time
from hwnas.report.html import environment

PAIRS = 12
"""Most confused pairs of classes that are listed."""

PAIRS_FROM_CLASSES = 12
"""Least number of classes for a list of confused pairs; the matrix of fewer classes shows them."""


class Pair(NamedTuple):
    """Images of one class that were classified as another."""

    label: str
    predicted: str
    images: int
    total: int
    """Images of the class."""


class WorstImage(NamedTuple):
    result: ImageResult
    thumbnail: str
    file: str
    """Name of the file without its folder."""


def page(run: EvaluationRun) -> str:
    """Return the page."""
    evaluation = run.evaluation
    worst = [
        WorstImage(result, thumbnail, Path(result.image).name)
        for result, thumbnail in zip(evaluation.worst, run.thumbnails, strict=True)
    ]
    template = environment(for_html=True).get_template("evaluation.html.j2")
    return template.render(
        evaluation=evaluation,
        confusion=Markup(confusion_svg(evaluation.confusion)),
        pairs=confused_pairs(evaluation.confusion),
        worst=worst,
        errors=evaluation.images - sum(result.correct for result in evaluation.classes),
        created=local_time(),
        version=__version__,
    )


def confused_pairs(confusion: Confusion) -> list[Pair]:
    """Return the pairs of classes that are confused most, for many classes."""
    if len(confusion.rows) < PAIRS_FROM_CLASSES:
        return []
    pairs = [
        Pair(label, confusion.columns[column], count, sum(counts))
        for row, (label, counts) in enumerate(zip(confusion.rows, confusion.counts, strict=True))
        for column, count in enumerate(counts)
        if count and column != row
    ]
    return sorted(pairs, key=lambda pair: (-pair.images, -pair.images / pair.total))[:PAIRS]
