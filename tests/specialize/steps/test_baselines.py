"""The resolutions in which a whole network is measured beside what is searched."""

from __future__ import annotations

from hwnas.specialize.context import Candidate
from hwnas.specialize.steps.baselines import near_budget
from tests.support.tiny import tiny_space

SPACE = tiny_space()


def at(size: int, predicted_ms: float | None) -> Candidate:
    return Candidate(
        name=f"network at {size}",
        origin="resolution",
        architecture=SPACE.architecture(SPACE.default),
        predicted_ms=predicted_ms,
    )


SIZES = [at(size, size / 100) for size in (160, 152, 144, 136, 128, 120, 112)]


def names(candidates: list[Candidate]) -> list[str]:
    return [each.name.removeprefix("network at ") for each in candidates]


def test_the_three_largest_that_should_keep_the_budget_are_measured() -> None:
    assert names(near_budget(SIZES, 1.4)) == ["144", "136", "128"]


def test_a_prediction_six_percent_above_the_budget_may_be_wrong() -> None:
    assert names(near_budget(SIZES, 1.44 / 1.0599)) == ["144", "136", "128"]
    assert names(near_budget(SIZES, 1.44 / 1.0601)) == ["136", "128", "120"]


def test_near_the_smallest_budget_fewer_are_left() -> None:
    assert names(near_budget(SIZES, 1.2 / 1.07)) == ["112"]
    assert near_budget(SIZES, 1.0) == []


def test_without_predictions_all_are_measured() -> None:
    unknown = [at(size, None) for size in (160, 152, 144, 136, 128)]
    assert near_budget(unknown, 1.0) == unknown
