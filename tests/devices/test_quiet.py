"""The clocks of quiet calls, learnt and read again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.devices.quiet import ClockPoint, QuietClocks, learn, read_clocks, with_scale
from hwnas.measurement.disturbance import contention
from hwnas.measurement.measurement import Environment, Measurement, Program
from hwnas.measurement.round import Round, Usage

HERE = Environment("pc", "0" * 12, "made up", "onnxruntime", "1", 1, "2026-01-01")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))


def measurement(wall_ms: float, cpu_ms: float, lost_ms: float = 0.0) -> Measurement:
    usage = Usage((cpu_ms,), (lost_ms,), (0,))
    return Measurement("a", (Round((wall_ms,), (1.0,), usage=usage),) * 3, HERE)


def test_clocks_that_agree_calibrate_cpu_time() -> None:
    assert read_clocks(HERE).wall_per_cpu is None
    learn([measurement(0.3, 0.303), measurement(30.0, 30.0)])
    assert read_clocks(HERE).wall_per_cpu == pytest.approx(0.995, abs=0.001)


def test_disturbed_calls_teach_nothing() -> None:
    learn([measurement(12.0, 4.0, lost_ms=8.0), measurement(3.0, 3.0)])
    assert read_clocks(HERE).points == (ClockPoint(3.0, 1.0),)


def test_calls_beside_another_program_teach_nothing_although_none_was_disturbed() -> None:
    beside = msgspec.structs.replace(HERE, programs=(Program("copies", 7, 0.97),))
    learn([msgspec.structs.replace(measurement(3.0, 3.0), environment=beside)])
    assert read_clocks(HERE).points == ()


def test_clocks_of_another_version_of_the_runtime_do_not_count() -> None:
    learn([measurement(0.3, 0.3), measurement(30.0, 30.0)])
    newer = msgspec.structs.replace(HERE, runtime_version="2")
    assert read_clocks(newer).wall_per_cpu is None


def test_several_threads_need_clocks_that_agree_over_a_range_of_networks() -> None:
    similar = (ClockPoint(1.0, 0.6), ClockPoint(2.0, 0.6))
    assert QuietClocks("1", 1, similar).wall_per_cpu == 0.6
    assert QuietClocks("1", 2, similar).wall_per_cpu is None
    assert QuietClocks("1", 2, (*similar, ClockPoint(60.0, 0.6))).wall_per_cpu == 0.6
    assert QuietClocks("1", 2, (*similar, ClockPoint(60.0, 0.55))).wall_per_cpu is None


def beside_larger(
    own_ms: float, larger_ms: float, base_ms: float, lost_ms: float = 0.0
) -> Measurement:
    quiet = Usage((base_ms,), (0.0,), (0,))
    lost = Usage((larger_ms,), (lost_ms,), (1,))
    round = Round(
        (own_ms,),
        (larger_ms + lost_ms,),
        reference="reference_96",
        reference_usage=lost,
        base_ms=(base_ms,),
        base_usage=quiet,
    )
    return Measurement("a", (round,) * 9, HERE, calibrated_reference_ms=0.2)


def test_a_network_beside_a_larger_reference_has_its_latency_in_units_of_the_reference() -> None:
    quiet = beside_larger(4.0, 3.0, 0.2)
    learn([quiet])
    assert read_clocks(HERE).scales == {"reference_96": pytest.approx(15.0)}
    assert with_scale(quiet, [quiet]).median_ms == pytest.approx(4.0)
    # later the clock is slower for long calls only: the larger reference absorbs that
    slower = beside_larger(8.0, 6.0, 0.2)
    assert with_scale(slower, [slower]).median_ms == pytest.approx(4.0)
    assert with_scale(slower, [slower]).reference_ms == pytest.approx(0.4)


def test_disturbed_references_teach_no_scale_and_the_same_call_gives_it() -> None:
    disturbed = beside_larger(4.0, 3.0, 0.2, lost_ms=9.0)
    learn([disturbed])
    assert read_clocks(HERE).scales == {}
    first, later = beside_larger(4.0, 3.0, 0.2), beside_larger(4.0, 3.6, 0.2)
    assert with_scale(first, [first]).median_ms == pytest.approx(4.0)
    learn([first])
    learn([later])
    assert read_clocks(HERE).scales == {"reference_96": pytest.approx(15.0)}, "the first stays"
    learn([later])
    assert read_clocks(HERE).recent == {"reference_96": pytest.approx((15.0, 18.0, 18.0))}
    settled = with_scale(later, [later])
    assert settled.rounds[0].quiet_scale == pytest.approx(18.0)
    assert contention(settled.rounds) == pytest.approx(0.0), "as in most quiet measurements"


def probed(probe_ms: float, lost_ms: float = 0.0) -> Measurement:
    taken = Usage((probe_ms,), (lost_ms,), (0,))
    beside = beside_larger(40.0, 3.0, 0.2)
    rounds = tuple(
        msgspec.structs.replace(round, probe_ms=(probe_ms + lost_ms,), probe_usage=taken)
        for round in beside.rounds
    )
    return msgspec.structs.replace(beside, rounds=rounds)


def test_the_quiet_latency_of_the_memory_probe_is_the_median_of_several_measurements() -> None:
    first = probed(30.0)
    assert with_scale(first, [first]).rounds[0].probe_scale is None
    for probe_ms in (30.0, 45.0, 31.5):
        learn([probed(probe_ms)])
    learn([probed(90.0, lost_ms=9.0)])
    assert read_clocks(HERE).recent["probe"] == pytest.approx((10.0, 15.0, 10.5))
    now = with_scale(first, [first]).rounds[0]
    assert now.probe_scale == pytest.approx(10.5) and now.probe_ratio == pytest.approx(10.0)
