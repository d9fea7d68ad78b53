"""Intervals of few values, and the verdict on a file that may have become slower."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from scipy import stats

from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.measurement.measurement import Environment, Measurement, compare
from hwnas.measurement.regression import (
    check_comparable,
    independent_values,
    judge,
    make_baseline,
    merge_measurements,
    read_baseline,
)
from hwnas.measurement.round import Round
from hwnas.measurement.statistics import change_interval, ratio_interval, student_quantile

ENVIRONMENT = Environment("board", "f", "h", "onnxruntime", "1", 1, "2026-01-01")


def measured(ratios: list[float], name: str = "m.onnx", rounds: int = 4) -> Measurement:
    """One process for each ratio, all of whose rounds have it, beside a reference of 2 ms."""
    rounds_ = tuple(
        Round((2 * ratio,), (2.0,), process)
        for process, ratio in enumerate(ratios)
        for _ in range(rounds)
    )
    return Measurement(name, rounds_, ENVIRONMENT, sha256=name)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9833])
def test_students_quantile_is_the_tabled_one(freedom: int, confidence: float) -> None:
    expected = stats.t.ppf(0.5 + confidence / 2, freedom)
    assert student_quantile(freedom, confidence) == pytest.approx(expected, rel=1e-6)


def test_the_interval_of_ratios_is_students_on_their_logarithms() -> None:
    ratio, low, high = ratio_interval([1.0, 1.1, 1.2])
    assert ratio == pytest.approx((1.0 * 1.1 * 1.2) ** (1 / 3))
    assert low < ratio < high
    assert low * high == pytest.approx(ratio**2)


def test_a_change_covers_the_true_one_in_95_of_100_trials() -> None:
    rng, hits = random.Random(0), 0
    for _ in range(1000):
        old = [rng.lognormvariate(0.0, 0.02) for _ in range(10)]
        new = [1.05 * rng.lognormvariate(0.0, 0.04) for _ in range(5)]
        _, low, high = change_interval(old, new)
        hits += low <= 1.05 <= high
    assert 0.93 <= hits / 1000 <= 0.99


def test_values_without_spread_have_an_exact_change() -> None:
    assert change_interval([2.0, 2.0], [3.0, 3.0]) == pytest.approx((1.5, 1.5, 1.5))


def test_differences_between_processes_are_not_between_models() -> None:
    """Inside each process the ratio is steady, between them it moves by 5 %."""
    moved = measured([1.0, 1.1, 0.95, 1.06, 0.98], rounds=30)
    comparison = compare(moved, measured([1.0] * 5, rounds=30))
    assert comparison.tie
    assert compare(measured([1.2] * 5), measured([1.0] * 5)).tie is False


def test_less_than_one_percent_is_a_tie_however_steady() -> None:
    assert compare(measured([1.008] * 5), measured([1.0] * 5)).tie


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        ([1.0, 1.01, 0.99, 1.0, 1.01], "passed"),
        ([1.08, 1.09, 1.10, 1.09, 1.08], "regressed"),
        ([1.03, 1.07, 1.04, 1.06, 1.05], "undecided"),
        ([0.8, 1.3, 0.9, 1.2, 1.0], "undecided"),
        ([0.5, 0.51, 0.5, 0.49, 0.5], "passed"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(now: list[float], verdict: str) -> None:
    baseline = make_baseline([measured([1.0, 1.01, 0.99, 1.0, 1.0])], "r")
    judgement = judge(baseline.model("m.onnx"), measured(now), 0.05)
    assert judgement.verdict == verdict
    assert judgement.low <= judgement.ratio <= judgement.high and judgement.limit == 1.05


def test_a_slower_machine_is_a_regression_only_by_the_raw_clock() -> None:
    baseline = make_baseline([measured([1.0, 1.01, 0.99])], "r")
    slow = tuple(
        msgspec.structs.replace(round, samples_ms=(1.4 * round.samples_ms[0],), reference_ms=(2.8,))
        for round in measured([1.0, 1.01, 0.99]).rounds
    )
    today = msgspec.structs.replace(measured([1.0]), rounds=slow)
    assert judge(baseline.models[0], today, 0.05).verdict == "passed"
    assert judge(baseline.models[0], today, 0.05, raw=True).verdict == "regressed"


def test_independent_values_are_processes_or_else_rounds() -> None:
    assert independent_values(measured([1.0, 2.0, 3.0])) == (1.0, 2.0, 3.0)
    assert independent_values(measured([1.5], rounds=3)) == (1.5, 1.5, 1.5)
    both = merge_measurements(measured([1.0, 2.0, 3.0]), measured([4.0, 5.0, 6.0]))
    assert independent_values(both) == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)


def test_a_baseline_survives_a_round_trip(tmp_path: Path) -> None:
    made = make_baseline([measured([1.0, 1.1, 1.2], "runs/a.onnx"), measured([2.0] * 3)], "r")
    file = tmp_path / "baseline.json"
    file.write_bytes(msgspec.json.encode(made))
    assert read_baseline(file) == made
    assert made.model("a.onnx").median_ms == pytest.approx(2.2)
    with pytest.raises(UnknownName, match=r"no file in the baseline named 'b\.onnx'"):
        made.model("b.onnx")


def test_two_files_of_the_same_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two have the same name"):
        make_baseline([measured([1.0], "a/m.onnx"), measured([1.0], "b/m.onnx")], "r")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"no json", "not a baseline of `hwnas benchmark"),
        (b"\xff\xfe", "not a baseline of `hwnas benchmark"),
        (b"{}", "missing required field"),
    ],
)
def test_a_file_that_is_not_a_baseline_is_refused(tmp_path: Path, text: bytes, why: str) -> None:
    file = tmp_path / "b.json"
    file.write_bytes(text)
    with pytest.raises(InvalidFile, match=why):
        read_baseline(file)
    with pytest.raises(InvalidFile, match="No such file"):
        read_baseline(tmp_path / "none.json")


def test_a_baseline_needs_two_values_and_this_schema(tmp_path: Path) -> None:
    made = make_baseline([measured([1.0, 1.1, 1.2])], "r")
    file = tmp_path / "b.json"
    short = msgspec.structs.replace(made.models[0], ratios=(1.0,))
    for changed, why in (
        (msgspec.structs.replace(made, models=(short,)), "at least two positive values"),
        (msgspec.structs.replace(made, schema=9), "schema 9, expected 1"),
    ):
        file.write_bytes(msgspec.json.encode(changed))
        with pytest.raises(InvalidFile, match=why):
            read_baseline(file)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"device": "other"}, "target"),
        ({"fingerprint": "g"}, "hardware"),
        ({"threads": 2}, "threads"),
    ],
)
def test_a_baseline_of_another_machine_is_refused(change: dict[str, str], what: str) -> None:
    baseline = make_baseline([measured([1.0, 1.1, 1.2])], "r")
    check_comparable(baseline, ENVIRONMENT, "r")
    with pytest.raises(UsageError, match=what):
        check_comparable(baseline, msgspec.structs.replace(ENVIRONMENT, **change), "r")
    with pytest.raises(UsageError, match="reference model"):
        check_comparable(baseline, ENVIRONMENT, "s")
