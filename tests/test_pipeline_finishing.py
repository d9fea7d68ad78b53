"""The delivered files are measured again where two measurements disagree."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from hwnas.measurement import Environment, Measurement, Round
from hwnas.pipeline import finishing
from hwnas.pipeline.job import Found
from hwnas.spaces.mobile import mobile_space

SPACE = mobile_space((1, 28, 28), 10)
NET = SPACE.architecture(SPACE.random(Random(0)))
SCREENED = Found(
    name="a", origin="search", architecture=NET, predicted_ms=1.0, measured_ms=1.0
)  # fmt: skip
HERE = Environment("d", "f", "h", "litert", "1", 1, "2026-11-22T00:00:00+00:00")


def answers(monkeypatch: pytest.MonkeyPatch, *sessions_ms: float) -> list[str]:
    """Let the device answer with these medians, one a session; return the sessions asked for."""
    asked: list[str] = []

    def measure(job: object, model: object, stage: str, files: object) -> dict[str, Measurement]:
        rounds = (Round((sessions_ms[len(asked)],), (1.0,)),) * 9
        asked.append(stage)
        return {NET.digest: Measurement("a", rounds, HERE, calibrated_reference_ms=1.0)}

    monkeypatch.setattr(finishing, "measure", measure)
    return asked


def final_ms() -> float:
    job: Any = SimpleNamespace(console=SimpleNamespace(say=lambda text: None))
    model: Any = None
    files = {NET.digest: Path("a.tflite")}
    return finishing._measure_agreeing(job, model, [SCREENED], files)[NET.digest].median_ms


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
    assert len(asked) == finishing.SESSIONS
