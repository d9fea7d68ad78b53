"""`hwnas benchmark`: both formats together, and what a device does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hwnas.cli.benchmark import benchmark
from hwnas.errors import TooNoisy, UsageError
from hwnas.shipped import shipped

NetWriter = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without a calibration of this machine."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(benchmark, [str(argument) for argument in arguments])


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
