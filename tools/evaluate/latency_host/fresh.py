"""Error of predictions for fresh networks, measured in the same and in other processes.

A model is fitted to a first pass. Fresh networks of that pass were measured in much the same
processes; the second pass measures them again, in processes without fitted networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.architecture import Architecture
from hwnas.latency_models.fitting.fit import score_predictions
from hwnas.latency_models.model import LatencyModel
from tools.evaluate.latency_host.designs import Seen

Floats = NDArray[np.float64]
Method = LatencyModel | Callable[[Architecture], float]


class Row(NamedTuple):
    """Figures of one method on the measurements of one directory."""

    name: str
    choices: int
    networks: int
    figures: Floats
    """Figures in the order of `FIGURES`; NaN where the method has none."""


FIGURES = {
    "within 5 %": ".1%",
    "within 10 %": ".1%",
    "RMSPE": ".2%",
    "Spearman": ".3f",
    "RMSPE, other process": ".2%",
    "90 % interval": ".1%",
    "90 % interval, other process": ".1%",
    "std": ".1%",
    "error and weights": "+.2f",
}
"""The last is a correlation, over networks, of the relative error and the number of parameters."""


def score_methods(
    name: str, methods: Sequence[Method], tested: list[Architecture], first: Seen, second: Seen
) -> Row:
    """Return the mean figures of ``methods``, which are fitted to different choices of networks.

    ``second`` has the same networks as ``first``, measured in other processes.
    """
    once, twice = _measured_ms(tested, first), _measured_ms(tested, second)
    weights = [sum(block.params for block in network.blocks) for network in tested]
    errors: list[Floats] = []
    intervals: list[list[float]] = []
    for method in methods:
        if isinstance(method, LatencyModel):
            predictions = method.predict([network.blocks for network in tested])
            mean_ms = predictions.mean_ms
            covered = [score_predictions(predictions, truth).covered_90 for truth in (once, twice)]
            related = np.corrcoef(mean_ms / once, weights)[0, 1]
            intervals.append(
                [*covered, float(np.mean(predictions.std_ms / mean_ms)), float(related)]
            )
        else:
            mean_ms = np.array([method(network) for network in tested])
        errors.append(np.append(_errors(mean_ms, once), _errors(mean_ms, twice)[2]))
    shares = np.mean(intervals, axis=0) if intervals else np.full(4, np.nan)
    figures = np.append(np.mean(errors, axis=0), shares)
    return Row(name, len(methods), len(tested), figures)


def score_repeat(tested: list[Architecture], first: Seen, second: Seen, name: str) -> Row:
    """Return the figures of the second measurement as a prediction of the first."""
    once, twice = _measured_ms(tested, first), _measured_ms(tested, second)
    return Row(name, 1, len(tested), np.append(_errors(twice, once), [np.nan] * 5))


def _measured_ms(networks: Sequence[Architecture], seen: Seen) -> Floats:
    return np.array([seen[network.compute_blocks].ms for network in networks])


def _errors(predicted: Floats, truth: Floats) -> Floats:
    """Return the shares within 5 and 10 %, RMSPE and Spearman."""
    errors = np.abs(predicted / truth - 1)
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, truth)]
    spearman = np.corrcoef(ranks[0], ranks[1])[0, 1]
    return np.array(
        [(errors <= 0.05).mean(), (errors <= 0.10).mean(), np.sqrt((errors**2).mean()), spearman]
    )


def table_row(row: Row, runs: int, figures: Floats) -> dict[str, object]:
    """Return the table row for the mean figures of all ``runs``."""
    cells = {
        title: "" if np.isnan(figure) else f"{figure:{form}}"
        for (title, form), figure in zip(FIGURES.items(), figures, strict=True)
    }
    return {
        "fitted to": row.name,
        "choices": row.choices * runs,
        "networks": row.networks * runs,
        **cells,
    }
