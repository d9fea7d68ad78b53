"""The candidates that a report lists."""

from __future__ import annotations

from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from hwnas.report.candidate_rows import CandidateRow
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.context import Candidate
from hwnas.specialize.results.rows import candidate_rows
from tests.support.reporting.sample_report import measured_report

SPACE = mobile_space((1, 28, 28), 10)


def candidate(name: str, origin: Any, measured_ms: float | None) -> Candidate:
    network = SPACE.architecture(SPACE.random(Random(name)))
    return Candidate(
        name=name,
        origin=origin,
        architecture=network,
        predicted_ms=0.8,
        measured_ms=measured_ms,
    )


def rows(runner: object, *candidates: Candidate) -> dict[str, CandidateRow]:
    run: Any = SimpleNamespace(
        target=SimpleNamespace(runner=runner), weights=None, budget_ms=1.0, space=SPACE
    )
    screened: Any = SimpleNamespace(candidates=candidates, model=SimpleNamespace(kind="fitted"))
    delivered: Any = SimpleNamespace(trained=())
    return {row.name: row for row in candidate_rows(run, screened, delivered)}


def test_a_disturbed_baseline_is_listed_as_such_and_not_judged() -> None:
    listed = rows(
        object(),
        candidate("searched", "search", 0.9),
        candidate("smaller", "resolution", 1.2),
        candidate("disturbed", "uniform", None),
        candidate("slow", "uniform", 1.2),
    )
    assert set(listed) == {"searched", "smaller", "disturbed"}
    assert (listed["disturbed"].disturbed, listed["disturbed"].keeps_budget) == (True, None)
    assert listed["disturbed"].kind == "predicted" and listed["disturbed"].latency_ms == 0.8
    assert (listed["smaller"].disturbed, listed["smaller"].keeps_budget) == (False, False)


def test_where_nothing_is_measured_nothing_is_disturbed() -> None:
    listed = rows(None, candidate("searched", "search", None), candidate("a", "uniform", None))
    assert set(listed) == {"searched"}
    assert not listed["searched"].disturbed and listed["searched"].keeps_budget is True


def test_the_pages_say_that_a_latency_was_disturbed(tmp_path: Path) -> None:
    report = measured_report()
    first, *others = report.results
    changed = msgspec.structs.replace(
        first.candidates[-1], name="odd one out", disturbed=True, keeps_budget=None
    )
    result = msgspec.structs.replace(first, candidates=(*first.candidates[:-1], changed))
    report = msgspec.structs.replace(report, results=(result, *others))
    for text in (report.html(), report.markdown()):
        lines = text.splitlines()
        [line] = [each for each in lines if each.startswith("| odd") or ">odd one out</td>" in each]
        assert "not measured: disturbed" in line
