"""The clocks of quiet calls, learnt and read again."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.devices.quiet import ClockPoint, QuietClocks, learn_clocks, read_clocks
from hwnas.measurement.measurement import Environment, Measurement
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
    learn_clocks([measurement(0.3, 0.303), measurement(30.0, 30.0)])
    assert read_clocks(HERE).wall_per_cpu == pytest.approx(0.995, abs=0.001)


def test_disturbed_calls_teach_nothing() -> None:
    learn_clocks([measurement(12.0, 4.0, lost_ms=8.0), measurement(3.0, 3.0)])
    assert read_clocks(HERE).points == (ClockPoint(3.0, 1.0),)


def test_clocks_of_another_version_of_the_runtime_do_not_count() -> None:
    learn_clocks([measurement(0.3, 0.3), measurement(30.0, 30.0)])
    newer = msgspec.structs.replace(HERE, runtime_version="2")
    assert read_clocks(newer).wall_per_cpu is None


def test_several_threads_need_clocks_that_agree_over_a_range_of_networks() -> None:
    similar = (ClockPoint(1.0, 0.6), ClockPoint(2.0, 0.6))
    assert QuietClocks("1", 1, similar).wall_per_cpu == 0.6
    assert QuietClocks("1", 2, similar).wall_per_cpu is None
    assert QuietClocks("1", 2, (*similar, ClockPoint(60.0, 0.6))).wall_per_cpu == 0.6
    assert QuietClocks("1", 2, (*similar, ClockPoint(60.0, 0.55))).wall_per_cpu is None
