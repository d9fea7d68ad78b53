"""The delivered files are measured again where two measurements disagree."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from hwnas.measurement.measurement import Environment, Measurement, Round
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.context import Candidate
from hwnas.specialize.steps import deliver, screening
from hwnas.specialize.steps import deliver as deliver_module

SPACE = mobile_space((1, 28, 28), 10)
NET = SPACE.architecture(SPACE.random(Random(0)))
SCREENED = Candidate(
    name="a", origin="search", architecture=NET, predicted_ms=1.0, measured_ms=1.0
)  # fmt: skip
HERE = Environment("d", "f", "h", "litert", "1", 1, "2026-11-22T00:00:00+00:00")


def answers(monkeypatch: pytest.MonkeyPatch, *sessions_ms: float) -> list[str]:
    """Let the device answer with these medians, one a session; return the sessions asked for."""
    asked: list[str] = []

    def measure(run: object, model: object, stage: str, files: object) -> dict[str, Measurement]:
        rounds = (Round((sessions_ms[len(asked)],), (1.0,)),) * 9
        asked.append(stage)
        return {NET.digest: Measurement("a", rounds, HERE, calibrated_reference_ms=1.0)}

    monkeypatch.setattr(deliver_module, "measure", measure)
    return asked


def final_ms() -> float:
    run: Any = SimpleNamespace(console=SimpleNamespace(say=lambda text: None))
    model: Any = None
    files = {NET.digest: Path("a.tflite")}
    return deliver._measure_agreeing(run, model, [SCREENED], files)[NET.digest].median_ms


def test_a_latency_that_agrees_with_its_screening_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answers(monkeypatch, 1.04)
    assert final_ms() == pytest.approx(1.04)
    assert asked == ["final"]


@pytest.mark.parametrize("first_ms", [0.7, 1.4])
def test_one_odd_session_is_outvoted_in_both_directions(
    monkeypatch: pytest.MonkeyPatch, first_ms: float
) -> None:
    asked = answers(monkeypatch, first_ms, 1.0, 1.0)
    assert final_ms() == pytest.approx(1.0)
    assert asked == ["final", "final-2", "final-3"]


def test_a_network_that_really_is_slower_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, 1.3, 1.31, 1.3)
    assert final_ms() == pytest.approx(1.3)
    assert len(asked) == deliver.SESSIONS


def delivered(used: float, *trained: Candidate) -> Any:
    """What a run hands over whose files all take ``used`` times what their screening said."""
    files = [
        SimpleNamespace(
            candidate=one,
            latency_ms=used * (one.measured_ms or 0.0),
            measurement=SimpleNamespace(kind="measured"),
        )
        for one in trained
    ]
    return SimpleNamespace(chosen=files[0], trained=tuple(files))


def further(used: float, trained: int = 1, first: int = 0) -> list[str]:
    nets = [SPACE.architecture(SPACE.random(Random(seed))) for seed in range(9)]
    found = [
        Candidate(
            name=str(number), origin="search", architecture=net, predicted_ms=1.0,
            measured_ms=0.99 - 0.02 * number, supernet_accuracy=0.5 + 0.01 * (number % 7),
        )
        for number, net in enumerate(nets)
    ]  # fmt: skip
    run: Any = SimpleNamespace(budget_ms=1.0, effort=SimpleNamespace(trained=1))
    screened: Any = SimpleNamespace(candidates=tuple(found))
    result = delivered(used, *found[first : first + trained])
    return [one.name for one in deliver.also_worth_training(screened, run, result)]


def test_a_file_that_keeps_the_budget_ends_the_run() -> None:
    assert further(1.0) == []


def test_a_file_over_the_budget_is_followed_by_one_that_should_keep_it() -> None:
    # 6 % slower than screened: number 2 would take 1.007 of the budget, 3 to 8 lie within it
    assert further(1.06) == ["6"]


def test_a_file_far_under_the_budget_is_followed_by_one_that_uses_more() -> None:
    assert further(1.0, first=8) == ["6"]  # 8 uses 83 % of the budget, 6 87 %


def test_where_no_other_network_would_fit_the_run_ends() -> None:
    assert further(0.7) == []  # all others would stay far under as well
    assert further(1.3) == []


def test_the_number_of_attempts_is_bounded() -> None:
    assert further(1.06, trained=2) == ["6"]
    assert further(1.06, trained=deliver.ATTEMPTS) == []


def test_only_what_was_asked_for_is_given_though_more_was_measured_before() -> None:
    # a resumed run: the journal holds networks that were trained further on
    known = {digest: Measurement(digest, (), HERE) for digest in ("first", "later")}
    run: Any = SimpleNamespace(
        target=SimpleNamespace(runner=object()),
        folder=SimpleNamespace(measured=lambda stage: known),
    )
    model: Any = None
    assert set(screening.measure(run, model, "final", {"first": Path("a.onnx")})) == {"first"}
