"""The choice of the delivered network among the trained networks that keep the budget."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hwnas.training.job import TrainingResult

PREFERENCE = 1.0
"""Standard errors by which a whole network must be better than a searched one to be delivered.
In the measured runs the cut network was better, or equal within the error (docs/results.md; three
seeds on one set of photos, one on another), so a smaller advantage of the whole network is more
often noise. Breiman et al., "Classification and Regression Trees", 1984, section 3.4.3, choose a
tree within one standard error of the best."""
LEFT_OUT = 2.0
"""Networks with an accuracy of more standard errors below the highest one are left out."""


def delivered_result(
    searched: Sequence[TrainingResult], whole: Sequence[TrainingResult], images: int
) -> TrainingResult:
    """Return the training whose network is delivered, by ``images`` validation images.

    That is the `most_accurate` of all. If that is a ``whole`` trained network, but better by less
    than `PREFERENCE` standard errors, the most accurate of the ``searched`` networks is delivered
    instead.
    """
    best = most_accurate([*searched, *whole], images)
    if best in searched or not searched:
        return best
    cut = most_accurate(searched, images)
    margin = PREFERENCE * standard_error(best.validation_accuracy, images)
    return cut if _score(cut) >= _score(best) - margin else best


def most_accurate(results: Sequence[TrainingResult], images: int) -> TrainingResult:
    """Return the training of the highest `label_probability` on ``images`` validation images.

    This criterion selects the network that is better on other images more often than the accuracy
    does (`tools.evaluate.pretrained.criteria`). Networks that are less accurate than the best by
    more than `LEFT_OUT` standard errors are left out.
    """
    highest = max(result.validation_accuracy for result in results)
    least = highest - LEFT_OUT * standard_error(highest, images)
    return max(
        (result for result in results if result.validation_accuracy >= least),
        key=lambda result: (result.label_probability or 0.0, result.validation_accuracy),
    )


def standard_error(accuracy: float, images: int) -> float:
    """Return the standard error of an accuracy on a number of images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def _score(result: TrainingResult) -> float:
    probability = result.label_probability
    return result.validation_accuracy if probability is None else probability
