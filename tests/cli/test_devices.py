"""`hwnas devices` and `hwnas benchmark` as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hwnas.benchmarking.result import FileResult, make_result
from hwnas.cli.benchmark import benchmark
from hwnas.cli.devices import devices
from hwnas.devices.profile import find_profile
from hwnas.errors import InvalidFile, TooNoisy, UnknownName, UsageError
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round
from hwnas.shipped import shipped

NetWriter = Callable[..., Path]
QUICK = "\n".join(
    ["warmup_s = 0.05", "runs = 5", "min_rounds = 9", "max_rounds = 9", "ci = 0.0", "threads = 1"]
)


def call(*arguments: str) -> Result:
    command = benchmark if arguments[0] == "benchmark" else devices
    return CliRunner().invoke(command, arguments[1:])


@pytest.fixture
def quick(tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the shipped profiles measure quickly, against small references."""
    folder = tmp_path / "devices"
    folder.mkdir()
    for name in ("host-cpu", "host-cpu-litert", "simulated-phone"):
        text = (shipped("devices") / f"{name}.toml").read_text()
        (folder / f"{name}.toml").write_text(text.replace("threads = 1", QUICK))
    monkeypatch.setenv("HWNAS_DEVICES", str(folder))
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))  # no calibration of the user's
    files = {
        "onnxruntime": write_net(tmp_path / "reference.onnx", channels=16),
        "litert": write_net(tmp_path / "reference.tflite", channels=16),
    }
    for module in ("worker", "simulated"):
        monkeypatch.setattr(f"hwnas.devices.runners.{module}.reference_file", files.__getitem__)


def test_the_list_names_all_devices() -> None:
    rows = json.loads(call("devices", "list", "--json").stdout)
    here = next(row for row in rows if row["name"] == "host-cpu")
    assert {"kind": "cpu", "threads": 1}.items() <= here.items()
    table = call("devices", "list").stdout
    assert all(row["name"] in table and row["title"] in table for row in rows)


def test_show_says_defaults_too() -> None:
    assert "measure.min_rounds" in call("devices", "show", "host-cpu").stdout
    shown = json.loads(call("devices", "show", "pixel1", "--json").stdout)
    assert (shown["default_input"], shown["measure"]["runs"]) == ([3, 224, 224], 7)
    assert isinstance(call("devices", "show", "pixel").exception, UnknownName)


def test_check_writes_one_line_for_each_file(tmp_path: Path) -> None:
    good = shipped("devices") / "host-cpu.toml"
    bad = tmp_path / "bad.toml"
    bad.write_text(good.read_text())
    assert call("devices", "check", str(good)).exit_code == 0
    result = call("devices", "check", str(good), str(bad), str(tmp_path / "none.toml"))
    assert result.exit_code == 2
    assert result.stdout.strip() == f"{good}: ok"
    wrong, missing = result.stderr.splitlines()
    assert "Expected name 'bad' as the file's, got 'host-cpu' - at `$.name`" in wrong
    assert "none.toml: No such file or directory" in missing
    problems = json.loads(call("devices", "check", "--json", str(bad)).stdout)
    assert problems[0]["problem"] == wrong


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("target", "suffix"), [("host-cpu", ".onnx"), ("host-cpu-litert", ".tflite")]
)
def test_benchmark_measures_and_compares(
    tmp_path: Path, write_net: NetWriter, target: str, suffix: str
) -> None:
    small = write_net(tmp_path / f"small{suffix}")
    large = write_net(tmp_path / f"large{suffix}", channels=48, layers=6)
    out = tmp_path / "out.json"
    arguments = [str(small), str(large), "--target", target, "--json", "--out", str(out)]
    result = call("benchmark", *arguments)
    assert result.exit_code == 0 or isinstance(result.exception, TooNoisy)
    document = json.loads(result.stdout)
    first, second = document["results"]
    assert (document["kind"], document["scale"], first["ratio"]) == ("measured", "raw", 1.0)
    assert second["ratio_ci95"][0] > 3 and not second["tie"]
    measurement = json.loads(out.read_text())["measurements"][1]
    assert len(measurement["rounds"]) + measurement.get("disturbed_rounds", 0) >= 10


@pytest.mark.usefixtures("quick")
def test_a_table_for_people_tells_what_is_only_simulated(
    tmp_path: Path, write_net: NetWriter
) -> None:
    files = [str(write_net(tmp_path / f"{name}.tflite")) for name in ("a", "b")]
    result = call("benchmark", *files, "--target", "simulated-phone")
    assert result.exit_code == 0
    assert result.stdout.startswith("simulated-phone: a simulated phone")
    assert "tie" in result.stdout
    assert "These latencies are simulated, not measured." in result.stdout


@pytest.mark.usefixtures("quick")
def test_a_wrong_file_is_a_usage_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no model")
    for file, kind in [
        (tmp_path / "none.onnx", UsageError),
        (tmp_path / "a.tflite", UsageError),
        (broken, InvalidFile),
    ]:
        error = call("benchmark", str(file)).exception
        assert isinstance(error, UsageError) and isinstance(error, kind)
        assert str(file) in str(error)
        assert (error.exit_code, "\n" in str(error)) == (2, False)


def test_noise_beyond_use_is_exit_code_6_and_less_of_it_a_flag() -> None:
    def row(spread: float) -> FileResult:
        rounds = tuple(Round((1 + spread * step,), (1.0,)) for step in range(-4, 5))
        environment = Environment("d", "f", "h", "r", "1", 1, "")
        result = make_result([Measurement("m", rounds, environment)], find_profile("host-cpu"))
        result.check_noise()
        return result.results[0]

    assert not row(0.01).unsteady
    assert row(0.03).unsteady
    with pytest.raises(TooNoisy, match="m: the 95 % interval is ±30% of the median") as caught:
        row(0.1)
    assert caught.value.exit_code == 6


def test_the_commands_import_nothing_heavy() -> None:
    code = (
        "import sys, hwnas.cli.devices, hwnas.cli.benchmark\n"
        "heavy = {'numpy', 'rich', 'onnxruntime', 'torch', 'msgspec'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
