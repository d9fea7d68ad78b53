"""A latency model that measurements contradict is named, with the command that makes a new one."""

from __future__ import annotations

import pytest

from hwnas.profiling.setup import latency_command
from hwnas.specialize.context import Candidate
from hwnas.specialize.results.model_note import again_command, disagreement
from hwnas.specialize.spec import RunSpec
from tests.support.reporting.sample_run import SPACE


def measured(*times_ms: float | None) -> list[Candidate]:
    """Return networks of 2 ms predicted, with a standard deviation of 0.05 ms."""
    return [
        Candidate(
            name=str(place),
            origin="search",
            architecture=SPACE.architecture(SPACE.default),
            predicted_ms=2.0,
            predicted_std_ms=0.05,
            measured_ms=time_ms,
        )
        for place, time_ms in enumerate(times_ms)
    ]


@pytest.mark.parametrize(
    "times_ms",
    [
        (2.0, 2.05, 1.95, 2.08, 2.4, 2.4),  # four of six inside
        (2.09, 2.09, 2.09, 2.09, 2.09, 2.09),  # too slow by less than 5 %
        (3.0, 3.0, 3.0, 3.0),  # too few
        (3.0, 3.0, 3.0, 3.0, None, None),
    ],
)
def test_a_model_that_agrees_is_not_mentioned(times_ms: tuple[float | None, ...]) -> None:
    assert disagreement(measured(*times_ms)) == ""


def test_a_wrong_model_is_described_by_its_error() -> None:
    text = disagreement(measured(2.0, 3.0, 3.0, 3.2, 1.0, 3.0, None))
    assert text.startswith("1 of 6 measured networks lie within its 90 % intervals")
    assert "median they take 1.50 times as long" in text


def test_the_command_that_measures_again_names_what_is_not_the_default() -> None:
    assert latency_command("measure", "host-cpu", "mobile", "fashion-mnist-6k") == (
        "hwnas latency measure --target host-cpu"
    )
    small = RunSpec(targets=("host-cpu",), resolutions=(24,))
    assert again_command(small) == (
        "hwnas latency measure --target host-cpu --resolution 24 --again"
    )
    spec = RunSpec(targets=("my phone",), space="ofa", data="photos", precisions=("int8",))
    assert again_command(spec) == (
        "hwnas latency measure --target 'my phone' --space ofa --data photos --precision int8 "
        "--again"
    )
