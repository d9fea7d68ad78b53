"""Real measurements on this machine; no test asserts an absolute time."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from hwnas.devices.discovery.doctor import examine
from hwnas.devices.profile import DeviceProfile, MeasureSpec, find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.runners import local
from hwnas.devices.runners.local import LocalRunner
from hwnas.errors import DeviceError, InvalidFile, UsageError
from hwnas.measurement.measurement import compare

NetWriter = Callable[..., Path]
QUICK = MeasureSpec(warmup_runs=2, warmup_s=0.05, runs=5, min_rounds=9, max_rounds=9, ci=0.0)
TARGETS = [("host-cpu", ".onnx"), ("host-cpu-litert", ".tflite")]


def profile(name: str, **changes: object) -> DeviceProfile:
    spec = msgspec.structs.replace(QUICK, **changes)
    return msgspec.structs.replace(find_profile(name), measure=spec)


@pytest.fixture
def runner(tmp_path: Path, write_net: NetWriter) -> Callable[..., LocalRunner]:
    def make(name: str, suffix: str, **changes: object) -> LocalRunner:
        reference = write_net(tmp_path / f"reference{suffix}", channels=16, layers=3)
        return LocalRunner(profile(name, **changes), reference)

    return make


def fake_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    file = tmp_path / "fake_worker.py"
    file.write_text(code)
    monkeypatch.setattr(local, "WORKER", file)


@pytest.mark.parametrize(("name", "suffix"), TARGETS)
def test_a_much_larger_model_is_slower_and_a_model_ties_with_itself(
    tmp_path: Path, write_net: NetWriter, runner: Callable[..., LocalRunner], name: str, suffix: str
) -> None:
    small = write_net(tmp_path / f"small{suffix}")
    large = write_net(tmp_path / f"large{suffix}", channels=48, layers=6)
    seen: list[tuple[int, int]] = []
    subjects = [Subject("small", small), Subject("large", large), Subject("again", small)]
    a, b, again = runner(name, suffix).measure(
        subjects, calibrated_reference_ms=1.0, progress=lambda *state: seen.append(state)
    )
    assert [result.name for result in (a, b, again)] == ["small", "large", "again"]
    assert compare(b, a).low > 3
    assert 0.7 < compare(a, again).ratio < 1.4
    assert b.kind == "measured"
    assert b.median_ms == pytest.approx(b.ratio)
    assert all((len(round.samples_ms), len(round.reference_ms)) == (5, 5) for round in b.rounds)
    assert len(b.rounds) + b.disturbed_rounds >= 10
    assert b.load_ms and b.first_run_ms
    assert len(b.sha256) == 64 and a.sha256 == again.sha256 != b.sha256
    assert seen and all(done <= total for done, total in seen)


@pytest.mark.parametrize(("name", "suffix"), TARGETS)
def test_the_environment_describes_this_machine(
    runner: Callable[..., LocalRunner], name: str, suffix: str
) -> None:
    environment = runner(name, suffix).probe()
    assert environment.device == name
    assert environment.affinity == (max(os.sched_getaffinity(0)),)
    assert len(environment.fingerprint) == 12
    assert environment.runtime_version and environment.hardware and environment.system
    assert (environment.threads, environment.load_before is None) == (1, False)


def test_a_profile_may_leave_the_worker_unpinned(runner: Callable[..., LocalRunner]) -> None:
    assert runner("host-cpu", ".onnx", pin=False).probe().affinity == ()


def test_each_measurement_has_a_process_of_its_own(
    tmp_path: Path, runner: Callable[..., LocalRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import json, os, pathlib\n"
        f"with open({str(tmp_path / 'pids')!r}, 'a') as file: file.write(f'{{os.getpid()}}\\n')\n"
        "print(json.dumps({'error': 'seen'}))\n"
    )
    fake_worker(monkeypatch, tmp_path, code)
    local_runner = runner("host-cpu", ".onnx")
    for _ in range(2):
        with pytest.raises(DeviceError, match="host-cpu: seen"):
            local_runner.probe()
    pids = {int(line) for line in (tmp_path / "pids").read_text().split()}
    assert len(pids) == 2 and os.getpid() not in pids


@pytest.mark.parametrize(("name", "suffix"), TARGETS)
def test_a_corrupt_file_is_named(
    tmp_path: Path, runner: Callable[..., LocalRunner], name: str, suffix: str
) -> None:
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"this is no model")
    with pytest.raises(InvalidFile, match=f"broken{suffix}: "):
        runner(name, suffix).measure([Subject("broken", broken)])


def test_a_missing_file_or_another_format_is_refused_at_once(
    tmp_path: Path, runner: Callable[..., LocalRunner]
) -> None:
    local_runner = runner("host-cpu", ".onnx")
    with pytest.raises(UsageError, match=r"host-cpu runs onnxruntime and takes \.onnx files"):
        local_runner.measure([Subject("a", tmp_path / "a.tflite")])
    with pytest.raises(UsageError, match=r"a\.onnx: no such file"):
        local_runner.measure([Subject("a", tmp_path / "a.onnx")])


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import os, sys\nprint('Aargh', file=sys.stderr, flush=True)\nos.kill(os.getpid(), 9)",
            r"host-cpu: the onnxruntime worker died of SIGKILL; last line of its stderr: Aargh",
        ),
        ("print('hello')", r"worker wrote b'hello.n', exit 0; last line of its stderr: nothing"),
        ("raise SystemExit('bye')", r"worker ended without a result, exit 1; .*: bye"),
    ],
)
def test_a_worker_that_dies_or_writes_nonsense_is_a_device_error(
    tmp_path: Path,
    runner: Callable[..., LocalRunner],
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    message: str,
) -> None:
    fake_worker(monkeypatch, tmp_path, code)
    with pytest.raises(DeviceError, match=message):
        runner("host-cpu", ".onnx").probe()


def test_a_worker_that_hangs_is_ended(
    tmp_path: Path, runner: Callable[..., LocalRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_worker(monkeypatch, tmp_path, "import time; time.sleep(60)")
    monkeypatch.setattr(local, "MAX_SILENCE_S", 0.3)
    with pytest.raises(DeviceError, match="worker was silent for 0 s"):
        runner("host-cpu", ".onnx").probe()


def test_a_profile_without_a_connection_is_named() -> None:
    with pytest.raises(DeviceError, match=r"pixel1: its profile has no connection"):
        open_runner(find_profile("pixel1"))


def test_two_threads_on_one_core_are_an_error_in_measuring_and_in_the_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_net: NetWriter
) -> None:
    two = profile("host-cpu", threads=2, pin=False)
    everywhere = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(everywhere)})
    try:
        with pytest.raises(DeviceError, match=r"host-cpu: 2 threads on 1 core .* take turns; al"):
            LocalRunner(two).measure([Subject("a", write_net(tmp_path / "a.onnx"))])
        checks = {check.name: check for check in examine(two)}
    finally:
        os.sched_setaffinity(0, everywhere)
    assert checks["threads"].state == "failed"
    assert checks["threads"].detail.startswith("2 threads on 1 core")
