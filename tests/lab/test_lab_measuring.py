"""Measuring, deploying and losing devices in the middle of it, on a real adbd and a real sshd."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hwnas.architecture.runtimes import RuntimeName
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.runners.programs import push_kit
from hwnas.devices.runners.remote import RemoteRunner
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import DeviceError, InvalidFile, TooNoisy
from hwnas.latency_models.storage.journal import read_journal
from hwnas.measurement.measurement import compare
from hwnas.profiling.bench import Bench, isolated_job
from hwnas.profiling.sampling import distinct_blocks
from tests.lab.bench import Host, Phone, host_profile, phone_profile

NetWriter = Callable[..., Path]


@pytest.fixture(params=["adb", "ssh"])
def profile(request: pytest.FixtureRequest, phone: Phone, host: Host) -> DeviceProfile:
    return phone_profile(phone) if request.param == "adb" else host_profile(host)


def suffix(profile: DeviceProfile) -> str:
    return ".tflite" if profile.runtime == "litert" else ".onnx"


def test_a_much_larger_model_is_slower_and_a_model_ties_with_itself(
    profile: DeviceProfile, tmp_path: Path, write_net: NetWriter
) -> None:
    small = write_net(tmp_path / f"small{suffix(profile)}")
    large = write_net(tmp_path / f"large{suffix(profile)}", channels=48, layers=6)
    seen: list[tuple[int, int]] = []
    runner = open_runner(profile)
    try:
        a, b, again = runner.measure(
            [Subject("small", small), Subject("large", large), Subject("again", small)],
            calibrated_reference_ms=1.0,
            progress=lambda *state: seen.append(state),
        )
    finally:
        runner.close()
    assert compare(b, a).low > 1.5
    assert 0.5 < compare(a, again).ratio < 2
    assert len(b.rounds) + b.disturbed_rounds >= 4  # more where other programs disturb some
    assert {len(round.samples_ms) for round in b.rounds} == {3}
    assert {round.process for round in b.rounds} <= {0, 1}
    assert b.kind == "measured" and b.median_ms == pytest.approx(b.ratio)
    assert b.environment.runtime_version and b.environment.affinity and b.load_ms
    assert seen and all(done <= total for done, total in seen)


def test_the_environment_is_the_devices(profile: DeviceProfile) -> None:
    runner = open_runner(profile)
    environment = runner.probe()
    runner.close()
    assert (environment.device, environment.runtime) == (profile.name, profile.runtime)
    assert "logical processors" in environment.hardware and len(environment.fingerprint) == 12


def test_a_corrupt_file_is_named_by_its_local_path(profile: DeviceProfile, tmp_path: Path) -> None:
    broken = tmp_path / f"broken{suffix(profile)}"
    broken.write_bytes(b"this is no model")
    runner = open_runner(profile)
    with pytest.raises(InvalidFile, match=rf"broken{suffix(profile)}: "):
        runner.measure([Subject("broken", broken)])
    runner.close()


def test_a_runner_for_another_processor_is_reported(phone: Phone, tmp_path: Path) -> None:
    foreign = tmp_path / "kit"
    foreign.mkdir()
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(200)  # RISC-V
    for name in ("litert_runner", "libLiteRt.so"):
        (foreign / name).write_bytes(header)
    runner = open_runner(phone_profile(phone, kits={"x86_64": str(foreign)}))
    with pytest.raises(
        DeviceError, match=r"litert_runner is built for riscv64, the device is a x86_64"
    ):
        runner.probe()


def test_a_missing_kit_gives_the_command_that_builds_it(phone: Phone, tmp_path: Path) -> None:
    runner = open_runner(phone_profile(phone, kits={"x86_64": str(tmp_path)}))
    with pytest.raises(DeviceError, match=r"no native runner for x86_64 .*hwnas kit --abi x86_64"):
        runner.probe()


def test_a_runner_that_crashes_is_reported(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "litert_runner").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (tmp_path / "libLiteRt.so").write_bytes(b"")
    runner = open_runner(phone_profile(phone, kits={"x86_64": str(tmp_path)}))
    with pytest.raises(DeviceError, match=r"ended with status 139 \(crashed"):
        runner.probe()


def test_a_runner_that_hangs_is_ended(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "litert_runner").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "libLiteRt.so").write_bytes(b"")
    runner = open_runner(phone_profile(phone, kits={"x86_64": str(tmp_path)}, limit_s=1.0))
    with pytest.raises(DeviceError, match="was ended after its limit of 1 s"):
        runner.probe()


@pytest.mark.parametrize(
    "output",
    ["nonsense", '{"result": 3}', '{"result": {"models": [], "environment": {}}}', "[" * 5000],
)
def test_a_runner_that_writes_nonsense_is_reported(
    phone: Phone, tmp_path: Path, output: str
) -> None:
    (tmp_path / "litert_runner").write_text(f"#!/bin/sh\necho '{output}'\n")
    (tmp_path / "libLiteRt.so").write_bytes(b"")
    runner = open_runner(phone_profile(phone, kits={"x86_64": str(tmp_path)}))
    with pytest.raises(DeviceError, match="lab-phone: the runner"):
        runner.probe()


def test_a_host_without_the_runtime_gives_advice(host: Host, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(
        "#!/bin/sh\nread -r request\n"
        'echo \'{"error": "ONNX Runtime is not installed here"}\'; exit 1\n'
    )
    bare.chmod(0o755)
    runner = open_runner(host_profile(host, python=str(bare)))
    with pytest.raises(DeviceError, match="lab-host: ONNX Runtime is not installed here"):
        runner.probe()


def test_the_users_benchmark_model_measures_too(
    phone: Phone, tmp_path: Path, write_net: NetWriter
) -> None:
    """A script plays the binary, which no package holds; its output is that of a real run."""
    binary = tmp_path / "benchmark_model"
    binary.write_text(
        "#!/bin/sh\necho 'INFO: STARTING!'\n"
        "echo 'INFO: count=9 first=9 curr=9 min=7 max=20 avg=9.5 std=1 p5=7 median=9 p95=18'\n"
        "echo 'INFO: Inference timings in us: Init: 6395, First inference: 2761, "
        "Warmup (avg): 10, Inference (avg): 9.5'\n"
    )
    given = {"program": "benchmark_model", "benchmark_binary": {"x86_64": str(binary)}}
    model = write_net(tmp_path / "small.tflite")
    [measurement] = open_runner(phone_profile(phone, **given)).measure([Subject("small", model)])
    assert (measurement.ratio, measurement.raw_median_ms, measurement.load_ms) == (
        1.0,
        0.009,
        6.395,
    )
    runner = open_runner(phone_profile(phone, **given, benchmark_flags=("--use_gpu=true",)))
    with pytest.raises(DeviceError, match="took none of the model's operators"):
        runner.measure([Subject("small", model)])


def test_twenty_drop_outs_lose_no_measurement(phone: Phone, tmp_path: Path) -> None:
    """The phone is killed every while and comes back empty; each block is measured all the same."""
    from hwnas.spaces.mobile.space import mobile_space

    jobs = list(map(isolated_job, distinct_blocks(mobile_space((3, 32, 32), 10))))[:60]
    profile = phone_profile(phone, patience_s=30.0)
    spec = msgspec.structs.replace(profile.measure, runs=1, min_rounds=2, max_rounds=2)
    profile = msgspec.structs.replace(profile, measure=spec)
    runner = RemoteRunner(profile)
    drops, over, further = 0, threading.Event(), iter(range(5))

    def disturb() -> None:
        nonlocal drops
        while drops < 20 and not over.is_set():
            time.sleep(0.6)
            phone.kill()
            phone.start()
            drops += 1

    def measure() -> None:
        while True:
            try:
                Bench(profile, runner, tmp_path).measure(jobs)
                return
            except (DeviceError, TooNoisy):
                if drops == 20 and next(further, None) is None:
                    raise  # no drop-out explains it
                continue  # as a user who types the command again

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        measure()
        thread.join(timeout=60)
    finally:
        over.set()
        thread.join()
    entries = read_journal(tmp_path)
    assert drops == 20
    assert sorted(entry.keys for entry in entries) == sorted(job.keys for job in jobs)
    counts = [len(e.measurement.rounds) + e.measurement.disturbed_rounds for e in entries]
    assert min(counts) >= 2


def test_results_from_before_a_drop_out_are_reused(
    phone: Phone, tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_net(tmp_path / "small.tflite")
    runner = RemoteRunner(phone_profile(phone, patience_s=0.0))
    calls: list[int] = []
    run_worker = runner.run_worker

    def lost_at_the_second(*words: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            phone.kill()
        return run_worker(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(runner, "run_worker", lost_at_the_second)
    try:
        with pytest.raises(DeviceError, match=r"1 of 2 processes .* are kept|offline|missing"):
            runner.measure([Subject("small", model)])
    finally:
        phone.start()
    [measurement] = runner.measure([Subject("small", model)])
    assert len(calls) == 3
    assert len(measurement.rounds) + measurement.disturbed_rounds >= 4


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_an_emulated_arm64_phone_computes_the_same_as_x86(
    arm_phone: Phone, tmp_path: Path, write_net: NetWriter, runtime: RuntimeName
) -> None:
    profile = msgspec.structs.replace(phone_profile(arm_phone), runtime=runtime)
    runner = RemoteRunner(profile)
    facts = runner.host.facts()
    assert (facts.abi, facts.machine, facts.cpu("CPU part")) == ("arm64-v8a", "aarch64", "0xd08")
    model = write_net(tmp_path / f"net{suffix(profile)}")
    shape = (1, 16, 16, 3) if runtime == "litert" else (1, 3, 16, 16)
    there, put = runner.host.transport, np.random.default_rng(0).normal(size=shape)
    (tmp_path / "in.bin").write_bytes(put.astype(np.float32).tobytes())
    program, libraries = push_kit(there, runner.host.remote, facts, runtime)
    output = f"{there.folder}/out.bin"
    result = there.run(
        [
            "env",
            f"LD_LIBRARY_PATH={libraries}",
            program,
            f"--graph={there.push(model)}",
            f"--input_file={there.push(tmp_path / 'in.bin')}",
            f"--output_filepath={output}",
        ]
    )
    assert result.status == 0, result
    there.pull(output, tmp_path / "out.bin")
    here = open_model(str(model), runtime)
    here.set_inputs([put.astype(np.float32)])
    here.run()
    got = np.frombuffer((tmp_path / "out.bin").read_bytes(), np.float32)
    assert np.abs(got - here.outputs()[0].ravel()).max() < 1e-5
    [measurement] = runner.measure([Subject("net", model)])
    assert measurement.kind == "emulated" and "emulated" in measurement.environment.hardware


def test_the_command_line_measures_on_the_phone(
    phone: Phone, tmp_path: Path, write_net: NetWriter
) -> None:
    profile = tmp_path / "lab-phone.toml"
    profile.write_bytes(msgspec.toml.encode(_without_none(phone_profile(phone))))
    a, b = (write_net(tmp_path / f"{name}.tflite") for name in "ab")
    output = hwnas("benchmark", a, b, "--target", profile, "--json", ok=(0, 6))
    if output:
        document = json.loads(output)
        assert document["target"] == "lab-phone" and len(document["results"]) == 2
    gone = profile.read_text().replace(phone.serial, "no-such-phone")
    profile.write_text(gone)
    assert "no-such-phone is missing" in hwnas("benchmark", a, "--target", profile, ok=(3,))


def hwnas(*words: object, ok: tuple[int, ...]) -> str:
    import sys

    command = [sys.executable, "-m", "hwnas", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in ok, done.stderr
    return done.stdout if done.returncode == 0 else done.stderr if 3 in ok else done.stdout


def _without_none(profile: DeviceProfile) -> dict[str, object]:
    def drop(value: object) -> object:
        if isinstance(value, dict):
            return {key: drop(item) for key, item in value.items() if item is not None}
        return value

    return drop(msgspec.to_builtins(profile))  # type: ignore[return-value]
