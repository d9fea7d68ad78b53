"""`hwnas benchmark` as a CI calls it: both formats, operators, and the gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from hwnas.benchmarking import run as benchmarking
from hwnas.cli.benchmark import benchmark
from hwnas.devices.op_profile.local import operator_times
from hwnas.devices.runners.memory import peak_memory
from hwnas.devices.worker.profilers.profile import onnx_runs
from hwnas.errors import InvalidFile, Regression, TooNoisy, UnknownName, UsageError
from hwnas.measurement.measurement import Environment, Measurement, Round
from hwnas.shipped import shipped

NetWriter = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without a calibration of this machine."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(benchmark, [str(argument) for argument in arguments])


class Steps:
    """Measurements by a script instead of a device: for each batch, each process's ratio."""

    def __init__(self, *batches: Sequence[float]) -> None:
        self.batches, self.measured = batches, 0

    def __call__(
        self, subjects: Sequence[Any], profile: Any, seed: int, progress: object
    ) -> list[Measurement]:
        ratios = self.batches[min(self.measured, len(self.batches) - 1)]
        self.measured += 1
        environment = Environment(profile.name, "f", "h", profile.runtime, "1", 1, "now")
        rounds = tuple(
            Round((ratio,), (1.0,), process)
            for process, ratio in enumerate(ratios)
            for _ in range(3)
        )
        return [Measurement(subject.name, rounds, environment, sha256="s") for subject in subjects]


STEADY = (1.0, 1.004, 0.996, 1.002, 0.998)


@pytest.fixture
def gate(tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return ``run(*batches, options)``: measures ``a.tflite`` against a baseline of `STEADY`."""
    file, baseline = write_net(tmp_path / "a.tflite"), tmp_path / "baseline.json"
    arguments = (file, "--target", "simulated-phone")
    monkeypatch.setattr(benchmarking, "measure_subjects", Steps(STEADY))
    assert call(*arguments, "--save-baseline", baseline).exit_code == 0

    def run(*batches: Sequence[float], options: Sequence[object] = ()) -> tuple[Result, Steps]:
        steps = Steps(*batches)
        monkeypatch.setattr(benchmarking, "measure_subjects", steps)
        return call(*arguments, "--baseline", baseline, *options), steps

    return run


def test_a_steady_file_passes_with_one_batch(gate: Any) -> None:
    result, steps = gate(STEADY)
    assert (result.exit_code, steps.measured) == (0, 1)
    assert "a.tflite: passed, 1.000" in result.stdout


def test_a_slower_file_is_exit_code_5(gate: Any) -> None:
    result, steps = gate([1.1 * ratio for ratio in STEADY])
    assert isinstance(result.exception, Regression) and result.exception.exit_code == 5
    assert "a.tflite: slower, +10.0%" in str(result.exception)
    assert "+5.0% allowed; the file is the same" in str(result.exception)
    assert steps.measured == 1


def test_a_slower_file_inside_the_allowed_share_passes(gate: Any) -> None:
    result, _ = gate([1.1 * ratio for ratio in STEADY], options=["--max-regress", "20%"])
    assert result.exit_code == 0


def test_noise_is_measured_three_times_then_exit_code_6(gate: Any) -> None:
    noisy = (0.8, 1.3, 0.9, 1.2, 1.0)
    result, steps = gate(noisy)
    assert isinstance(result.exception, TooNoisy) and result.exception.exit_code == 6
    assert "too noisy for a verdict" in str(result.exception)
    assert steps.measured == 3


def test_a_second_batch_decides_an_open_verdict(gate: Any) -> None:
    result, steps = gate((1.0, 1.05, 0.97, 1.06, 1.0), STEADY)
    assert result.exit_code == 0
    assert 1 < steps.measured <= 3


def test_the_verdicts_are_in_junit_markdown_and_json(gate: Any, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "j.xml", tmp_path / "m.md"
    options = ["--junit", junit, "--markdown", markdown, "--json"]
    result, _ = gate([1.1 * ratio for ratio in STEADY], options=options)
    suite = ElementTree.parse(junit).getroot()
    [failure] = suite.iter("failure")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert "slower, +10.0%" in (failure.get("message") or "")
    assert "regressed: +10.0%" in markdown.read_text()
    [judgement] = json.loads(result.stdout)["gate"]["judgements"]
    assert (judgement["verdict"], judgement["limit"]) == ("regressed", 1.05)


def test_a_regressed_file_makes_no_new_baseline(gate: Any, tmp_path: Path) -> None:
    new = tmp_path / "new.json"
    gate([1.1 * ratio for ratio in STEADY], options=["--save-baseline", new])
    assert not new.exists()
    gate(STEADY, options=["--save-baseline", new])
    assert new.exists()


def test_a_file_that_the_baseline_lacks_is_named_before_measuring(
    gate: Any, tmp_path: Path, write_net: NetWriter
) -> None:
    other = write_net(tmp_path / "b.tflite")
    result, steps = gate(STEADY, options=[other])
    assert isinstance(result.exception, UnknownName)
    assert "no file of the baseline named 'b.tflite'" in str(result.exception)
    assert steps.measured == 0


@pytest.mark.parametrize("share", ["much", "-5%", "nan"])
def test_a_wrong_share_is_a_usage_error(gate: Any, share: str) -> None:
    result, _ = gate(STEADY, options=["--max-regress", share])
    assert result.exit_code == 2 and "expected a share such as 5% or 0.05" in result.stderr


def test_both_formats_are_measured_beside_each_other(
    tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "here.toml"
    text = (shipped("devices") / "host-cpu.toml").read_text()
    quick = "warmup_s = 0.05\nruns = 3\nmin_rounds = 9\nmax_rounds = 9\nprocesses = 3\nthreads = 1"
    profile.write_text(text.replace('"host-cpu"', '"here"').replace("threads = 1", quick))
    files = [write_net(tmp_path / name, channels=16) for name in ("a.onnx", "b.tflite")]
    result = call(*files, "--target", profile, "--json", "--per-op")
    assert result.exit_code == 0 or isinstance(result.exception, TooNoisy)
    document = json.loads(result.stdout)
    a, b = document["results"]
    assert (a["runtime"], b["runtime"]) == ("onnxruntime", "litert")
    assert a["runtime_version"] != b["runtime_version"]
    assert [row["size_bytes"] for row in (a, b)] == [file.stat().st_size for file in files]
    assert 0 < a["peak_memory_bytes"] < a["process_memory_bytes"]
    assert len(document["differences"]) == 1
    assert [table["file"] for table in document["operators"]] == [str(file) for file in files]


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite"])
def test_operator_times_name_every_convolution_and_sum_to_one(
    tmp_path: Path, write_net: NetWriter, name: str
) -> None:
    file = write_net(tmp_path / name, channels=32, layers=3, size=32)
    rows = operator_times(file, "onnxruntime" if name.endswith("onnx") else "litert")
    assert sum("Conv" in row.kind for row in rows) == 3
    assert sum(row.share for row in rows) == pytest.approx(1.0)
    assert all(row.median_ms >= 0 and row.provider for row in rows)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_file_that_is_no_model_is_named_by_profiler_and_memory(
    tmp_path: Path, runtime: Any
) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no model")
    with pytest.raises(InvalidFile, match="broken: "):
        operator_times(broken, runtime)
    with pytest.raises(InvalidFile, match="broken: "):
        peak_memory([(broken, runtime)], 1)


def test_a_larger_model_takes_more_memory(tmp_path: Path, write_net: NetWriter) -> None:
    small = write_net(tmp_path / "small.onnx")
    large = write_net(tmp_path / "large.onnx", channels=512, layers=4)
    a, b = peak_memory([(small, "onnxruntime"), (large, "onnxruntime")], 1)
    assert b.model_bytes > a.model_bytes + 4 * 3 * 512 * 512 * 9
    assert a.empty_bytes == b.empty_bytes > 1e7


def test_a_run_of_the_profile_ends_with_its_model_run() -> None:
    def node(name: str, start: int) -> dict[str, Any]:
        args = {"op_name": "Conv", "provider": "CPU"}
        return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": 5, "args": args}

    run = {"cat": "Session", "name": "model_run", "ts": 0, "dur": 20}
    fence = {"cat": "Node", "name": "x_fence_before", "ts": 0, "dur": 1}
    events = [
        node("b", 2),
        node("a", 1),
        fence,
        run,
        node("a", 11),
        node("b", 12),
        run,
        node("c", 1),
    ]
    first, second = onnx_runs(events)
    assert first == second == [("a", "Conv", "CPU", 0.005), ("b", "Conv", "CPU", 0.005)]


def test_per_op_is_refused_for_a_device_without_a_profiler(
    tmp_path: Path, write_net: NetWriter
) -> None:
    file = write_net(tmp_path / "a.tflite")
    error = call(file, "--target", "simulated-phone", "--per-op").exception
    assert isinstance(error, UsageError) and "simulated-phone has no profiler" in str(error)
    error = call(write_net(tmp_path / "a.onnx"), "--target", "host-gpu", "--per-op").exception
    assert isinstance(error, UsageError) and "when kernels are launched" in str(error)


def test_a_phone_takes_its_own_format_only(tmp_path: Path, write_net: NetWriter) -> None:
    error = call(write_net(tmp_path / "a.onnx"), "--target", "pixel1").exception
    assert isinstance(error, UsageError) and "takes .tflite files" in str(error)
