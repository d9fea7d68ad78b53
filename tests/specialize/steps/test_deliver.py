"""The delivered files are measured again if two measurements disagree."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.context import Candidate
from hwnas.specialize.steps import deliver, screening
from hwnas.specialize.steps.deliver import (
    DeliveryResult,
    TrainedCandidate,
    further_candidates,
)

SPACE = mobile_space((1, 28, 28), 10)
NET = SPACE.architecture(SPACE.random(Random(0)))
CANDIDATE = Candidate(
    name="a", origin="search", architecture=NET, predicted_ms=1.0, measured_ms=1.0
)
HERE = Environment("d", "f", "h", "litert", "1", 1, "2026-11-22T00:00:00+00:00")


def measurement(median_ms: float) -> Measurement:
    return Measurement("a", (Round((median_ms,), (1.0,)),) * 9, HERE, calibrated_reference_ms=1.0)


def answers(monkeypatch: pytest.MonkeyPatch, *sessions_ms: float) -> list[str]:
    """Let the device answer with these medians, one a session; return the list of sessions."""
    sessions: list[str] = []

    def measure(
        run: object, model: object, stage: str, files: object, required: object
    ) -> dict[str, Measurement]:
        sessions.append(stage)
        return {NET.digest: measurement(sessions_ms[len(sessions) - 1])}

    monkeypatch.setattr(deliver, "measure", measure)
    return sessions


def final_ms() -> float:
    run: Any = SimpleNamespace(console=SimpleNamespace(say=lambda text: None))
    model: Any = None
    artifact: Any = SimpleNamespace(path="a.tflite")
    return deliver._measure_agreeing(run, model, [CANDIDATE], [artifact])[NET.digest].median_ms


def test_a_latency_that_agrees_with_its_screening_is_measured_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sessions = answers(monkeypatch, 1.04)
    assert final_ms() == pytest.approx(1.04)
    assert sessions == ["final"]


@pytest.mark.parametrize("first_ms", [0.7, 1.4])
def test_one_odd_session_is_outvoted_in_both_directions(
    monkeypatch: pytest.MonkeyPatch, first_ms: float
) -> None:
    sessions = answers(monkeypatch, first_ms, 1.0, 1.0)
    assert final_ms() == pytest.approx(1.0)
    assert sessions == ["final", "final-2", "final-3"]


def test_a_network_that_really_is_slower_stays_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = answers(monkeypatch, 1.3, 1.31, 1.3)
    assert final_ms() == pytest.approx(1.3)
    assert len(sessions) == deliver.MAX_SESSIONS


BASELINE = msgspec.structs.replace(
    CANDIDATE, name="b", origin="uniform", architecture=SPACE.architecture(SPACE.random(Random(1)))
)
WHOLE = msgspec.structs.replace(BASELINE, name="whole", origin="resolution")


@pytest.mark.parametrize("answered", [2, 3, None])
def test_a_disturbed_network_to_compare_with_is_measured_again_and_at_last_named(
    answered: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions: list[str] = []
    printed: list[str] = []

    def measure(
        run: object, model: object, stage: str, files: dict[str, Path], required: set[str]
    ) -> dict[str, Measurement]:
        sessions.append(stage)
        assert required == ({NET.digest} if stage == "final" else ())
        measured = {NET.digest: measurement(1.0)}
        if len(sessions) == answered:
            measured[BASELINE.architecture.digest] = measurement(0.9)
        return measured

    monkeypatch.setattr(deliver, "measure", measure)
    run: Any = SimpleNamespace(console=SimpleNamespace(say=printed.append))
    model: Any = None
    artifact: Any = SimpleNamespace(path="a.tflite")
    baseline = msgspec.structs.replace(BASELINE, measured_ms=None)
    result = deliver._measure_agreeing(run, model, [CANDIDATE, baseline], [artifact, artifact])
    named = "not measured, since other programs disturbed it: b"
    if answered is None:
        assert set(result) == {NET.digest} and printed[-1] == named
        assert len(sessions) == deliver.MAX_SESSIONS
    else:
        assert result[BASELINE.architecture.digest].median_ms == pytest.approx(0.9)
        assert len(sessions) == answered and named not in printed


def test_a_network_without_a_latency_is_not_delivered_where_latency_is_measured() -> None:
    unused: Any = None
    results: Any = [
        SimpleNamespace(validation_accuracy=accuracy, label_probability=accuracy)
        for accuracy in (0.5, 0.9)
    ]
    searched = TrainedCandidate(CANDIDATE, results[0], unused, measurement(1.0))
    whole = TrainedCandidate(WHOLE, results[1], unused, None)
    dataset = SimpleNamespace(valid=SimpleNamespace(labels=range(1000)))
    run: Any = SimpleNamespace(
        target=SimpleNamespace(runner=object()), budget_ms=1.1, dataset=dataset
    )
    assert deliver._best(run, (searched, whole)) is searched
    measured = whole._replace(measurement=measurement(1.0))
    assert deliver._best(run, (searched, measured)) is measured


def delivered(ratio: float, *candidates: Candidate) -> DeliveryResult:
    """Return a delivery whose files all take ``ratio`` times their screened latency."""
    unused: Any = None
    trained = tuple(
        TrainedCandidate(each, unused, unused, measurement(ratio * (each.measured_ms or 0.0)))
        for each in candidates
    )
    return DeliveryResult(trained[0], trained, (), None)


def further(ratio: float, trained: int = 1, first: int = 0) -> list[str]:
    networks = [SPACE.architecture(SPACE.random(Random(seed))) for seed in range(9)]
    candidates = [
        Candidate(
            name=str(number),
            origin="search",
            architecture=network,
            predicted_ms=1.0,
            measured_ms=0.99 - 0.02 * number,
            supernet_accuracy=0.5 + 0.01 * (number % 7),
        )
        for number, network in enumerate(networks)
    ]
    run: Any = SimpleNamespace(budget_ms=1.0, effort=SimpleNamespace(trained=1))
    screened: Any = SimpleNamespace(candidates=tuple(candidates))
    result = delivered(ratio, *candidates[first : first + trained])
    return [each.name for each in further_candidates(screened, run, result)]


def test_a_file_that_keeps_the_budget_ends_the_run() -> None:
    assert further(1.0) == []


def test_a_file_over_the_budget_is_followed_by_one_that_should_keep_it() -> None:
    # 6 % slower than screened: number 2 would take 1.007 of the budget, 3 to 8 lie within it
    assert further(1.06) == ["6"]


def test_a_file_far_below_the_budget_is_followed_by_one_that_uses_more() -> None:
    assert further(1.0, first=8) == ["6"]  # 8 uses 83 % of the budget, 6 87 %


def test_if_no_other_network_would_fit_the_run_ends() -> None:
    assert further(0.7) == []  # all others would stay far below it as well
    assert further(1.3) == []


def test_the_number_of_networks_to_train_is_bounded() -> None:
    assert further(1.06, trained=2) == ["6"]
    assert further(1.06, trained=deliver.MAX_TRAINED_FACTOR) == []


def test_only_the_files_given_are_returned_though_more_were_measured_before() -> None:
    # a resumed run: the journal has networks that were trained in a later step
    known = {digest: Measurement(digest, (), HERE) for digest in ("first", "later")}
    run: Any = SimpleNamespace(
        target=SimpleNamespace(runner=object()),
        folder=SimpleNamespace(measured=lambda stage: known),
    )
    model: Any = None
    files = {"first": Path("a.onnx")}
    assert set(screening.measure(run, model, "final", files, files)) == {"first"}
