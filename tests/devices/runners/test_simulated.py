"""The simulated device, on the operators of real files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners.simulated import (
    SimulatedOperator,
    SimulatedRunner,
    latency_ms,
    read_operators,
)
from hwnas.errors import DeviceLost, InvalidFile, UsageError

NetWriter = Callable[..., Path]
PHONE = find_profile("simulated-phone")
ONNX_PHONE = msgspec.structs.replace(PHONE, runtime="onnxruntime")


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_macs_are_counted_from_the_file(tmp_path: Path, write_net: NetWriter, suffix: str) -> None:
    dense = read_operators(write_net(tmp_path / f"a{suffix}"))
    macs = [16 * 16 * 9 * 3 * 8, 16 * 16 * 9 * 8 * 8]
    assert [operator.macs for operator in dense if operator.macs] == macs
    deep = read_operators(write_net(tmp_path / f"b{suffix}", depthwise=True))
    assert [operator.macs for operator in deep if operator.depthwise] == [16 * 16 * 9 * 8]


@pytest.mark.parametrize(("profile", "suffix"), [(PHONE, ".tflite"), (ONNX_PHONE, ".onnx")])
def test_a_measurement_is_deterministic_and_never_called_measured(
    tmp_path: Path, write_net: NetWriter, profile: DeviceProfile, suffix: str
) -> None:
    runner = SimulatedRunner(profile, write_net(tmp_path / f"reference{suffix}", channels=16))
    subjects = [Subject("a", write_net(tmp_path / f"a{suffix}"))]
    first, again = runner.measure(subjects), runner.measure(subjects, seed=1)
    assert first == again
    assert first[0].kind == "simulated"
    assert first[0].cv > 0


def test_noise_does_not_shift_the_latency_of_the_formula(
    tmp_path: Path, write_net: NetWriter
) -> None:
    file = write_net(tmp_path / "a.tflite")
    [measurement] = SimulatedRunner(PHONE, file).measure([Subject("a", file)])
    assert PHONE.simulation is not None
    exact_ms = latency_ms(read_operators(file), PHONE.simulation)
    assert measurement.raw_median_ms == pytest.approx(exact_ms, rel=0.01)
    assert measurement.ratio == pytest.approx(1.0, rel=0.02)


def test_depthwise_convolutions_are_slow_for_their_arithmetic() -> None:
    simulation = PHONE.simulation
    assert simulation is not None
    dense_ms = latency_ms([SimulatedOperator(10**7, depthwise=False)], simulation)
    assert latency_ms([SimulatedOperator(10**7, depthwise=True)], simulation) > 10 * dense_ms
    assert latency_ms([], simulation) == simulation.call_ms


@pytest.mark.parametrize(("profile", "suffix"), [(PHONE, ".tflite"), (ONNX_PHONE, ".onnx")])
def test_a_corrupt_file_is_named(
    tmp_path: Path, write_net: NetWriter, profile: DeviceProfile, suffix: str
) -> None:
    runner = SimulatedRunner(profile, write_net(tmp_path / f"reference{suffix}"))
    broken = tmp_path / f"broken{suffix}"
    for content in (b"", b"this is no model", b"\x1c\0\0\0TFL3" + b"\xff" * 40):
        broken.write_bytes(content)
        with pytest.raises(InvalidFile, match=f"broken{suffix}: not a readable {suffix} model"):
            runner.measure([Subject("broken", broken)])


def test_a_file_of_another_format_is_refused(tmp_path: Path, write_net: NetWriter) -> None:
    runner = SimulatedRunner(PHONE, write_net(tmp_path / "reference.tflite"))
    with pytest.raises(UsageError, match=r"simulated-phone runs litert and takes \.tflite files"):
        runner.measure([Subject("a", tmp_path / "a.onnx")])


def befallen(**faults: float) -> DeviceProfile:
    assert PHONE.simulation is not None
    simulation = msgspec.structs.replace(PHONE.simulation, noise=0.0, **faults)
    return msgspec.structs.replace(PHONE, simulation=simulation)


def test_throttling_changes_raw_latency_but_not_the_ratio(
    tmp_path: Path, write_net: NetWriter
) -> None:
    reference = write_net(tmp_path / "reference.tflite", channels=16)
    subject = Subject("a", write_net(tmp_path / "a.tflite"))
    calls = PHONE.measure.runs * PHONE.measure.min_rounds
    runner = SimulatedRunner(befallen(throttle_after_calls=calls, throttled_speed=0.5), reference)
    cool, hot = runner.measure([subject, subject], calibrated_reference_ms=1.0)
    assert hot.raw_median_ms == pytest.approx(2 * cool.raw_median_ms, rel=1e-3)
    assert hot.median_ms == pytest.approx(cool.median_ms, rel=1e-3)
    assert 1 + hot.drift == pytest.approx(2 * (1 + cool.drift), rel=1e-3)


def test_a_device_is_lost_the_given_number_of_times(
    tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    reference = write_net(tmp_path / "reference.tflite", channels=16)
    subjects = [Subject(name, write_net(tmp_path / f"{name}.tflite")) for name in "abcd"]
    for number in (1, 2):
        runner = SimulatedRunner(befallen(drop_outs=2), reference)  # as in a new process
        with pytest.raises(DeviceLost, match=rf"lost while it ran c; simulated drop-out {number}"):
            runner.measure(subjects)
    assert len(SimulatedRunner(befallen(drop_outs=2), reference).measure(subjects)) == 4


def test_simulated_faults_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    prints = {
        SimulatedRunner(befallen(**faults)).probe().fingerprint
        for faults in ({}, {"drop_outs": 3}, {"throttle_after_calls": 5})
    }
    assert len(prints) == 1
