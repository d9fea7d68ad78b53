"""Benchmarks as a Python program runs them: no console, typed results."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import onnx
import pytest
from torch import nn

from hwnas.benchmarking.result import BenchmarkResult, make_result
from hwnas.benchmarking.run import Benchmark, BenchmarkRequest, run_benchmark
from hwnas.benchmarking.text import batch_table, junit, latency_table, markdown, sentences
from hwnas.devices.profile import find_profile
from hwnas.errors import UnknownName, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.recipe import find_recipe
from hwnas.shipped import shipped
from tests.support.reporting.sample_report import host_measurement

NetWriter = Callable[..., Path]


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without a calibration of this machine."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


@pytest.fixture
def result(tmp_path: Path, write_net: NetWriter) -> BenchmarkResult:
    """A small and a large file, measured on a simulated phone with few rounds."""
    text = (shipped("devices") / "simulated-phone.toml").read_text()
    profile = tmp_path / "quick-phone.toml"
    profile.write_text(text.replace('"simulated-phone"', '"quick-phone"'))
    files = [
        write_net(tmp_path / "small.tflite"),
        write_net(tmp_path / "large.tflite", channels=64, layers=4),
    ]
    return run_benchmark(BenchmarkRequest(files=tuple(map(str, files)), target=str(profile)))


def test_every_file_has_a_row_and_every_two_files_a_difference(result: BenchmarkResult) -> None:
    small, large = result.results
    assert (small.ratio, small.tie) == (1.0, False)
    assert large.ratio > 1 and large.median_ms > small.median_ms
    assert small.size_bytes and large.size_bytes and large.size_bytes > small.size_bytes
    [difference] = result.differences
    assert (difference.faster, difference.slower) == (small.file, large.file)
    assert difference.ratio == pytest.approx(large.ratio)
    assert difference.real
    assert (result.kind, result.gate, result.operators) == ("simulated", None, ())


def test_plain_data_has_all_samples_only_on_request(result: BenchmarkResult) -> None:
    data = result.to_dict()
    assert json.loads(json.dumps(data)) == data
    assert "measurements" not in data
    first, _ = result.to_dict(samples=True)["measurements"]
    calls = sum(len(round["samples_ms"]) for round in first["rounds"])
    assert calls == result.results[0].samples


def test_text_and_markdown_have_the_same_cells(result: BenchmarkResult) -> None:
    titles, rows = latency_table(result)
    table = [line for line in markdown(result).splitlines() if line.startswith("| <code>")]
    for row, line in zip(rows, table, strict=True):
        cells = line.replace("<code>", "").replace("</code>", "").strip("|").split("|")
        assert [cell.strip() for cell in cells] == row[:-1]
        assert len(row) == len(titles)
    assert any("simulated, not measured" in line for line in sentences(result))
    assert any(line.endswith("a real difference.") for line in sentences(result))


def test_weights_in_another_file_count_for_the_size(tmp_path: Path, write_net: NetWriter) -> None:
    whole, parted = write_net(tmp_path / "a.onnx", channels=64, layers=4), tmp_path / "b.onnx"
    onnx.save_model(
        onnx.load(whole), parted, save_as_external_data=True, location="b.data", size_threshold=100
    )
    measurements = [host_measurement("measured")] * 2
    result = make_result(measurements, find_profile("host-cpu"), files=(whole, parted))
    sizes = [row.size_bytes or 0 for row in result.results]
    assert sizes[1] == parted.stat().st_size + (tmp_path / "b.data").stat().st_size
    assert sizes[1] > 0.9 * sizes[0] > parted.stat().st_size


def test_inputs_per_second_stand_without_a_gpu_s_copies(result: BenchmarkResult) -> None:
    small = msgspec.structs.replace(result.results[0], batch=4, inputs_per_s=97_650.0)
    titles, rows = batch_table(msgspec.structs.replace(result, results=(small,))) or ([], [])
    assert titles == ["file", "provider", "batch", "inputs / s"]
    assert [row[2:] for row in rows] == [["4", "97,650"]]


def test_rows_name_the_precision_of_the_file(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    files: list[str] = []
    for precision in ("fp32", "fp16"):
        file = tmp_path / f"{precision}.tflite"
        compile_model(network, (3, 8, 8), file, recipe=find_recipe("tflite", precision))
        files.append(str(file))
    result = run_benchmark(BenchmarkRequest(files=tuple(files), target="simulated-phone"))
    assert [row.precision for row in result.results] == ["fp32", "fp16"]
    titles, rows = latency_table(result)
    assert [row[titles.index("precision")] for row in rows] == ["fp32", "fp16"]


def test_names_of_files_are_escaped(tmp_path: Path, write_net: NetWriter) -> None:
    file = write_net(tmp_path / "a|b <i>`\x07&\n.tflite")
    request = BenchmarkRequest(files=(str(file),), target="simulated-phone")
    result = run_benchmark(request)
    (row,) = [line for line in markdown(result).splitlines() if line.startswith("| <code>")]
    assert "a&#124;b &lt;i&gt;`\\x07&amp;\\x0a.tflite</code>" in row
    assert row.count("|") == 12 - 1
    case = ElementTree.fromstring(junit(result)).find("testcase")
    assert case is not None and case.get("name") == str(tmp_path / "a|b <i>`\\x07&\\x0a.tflite")


def test_progress_is_reported(tmp_path: Path, write_net: NetWriter) -> None:
    file = write_net(tmp_path / "a.tflite")
    steps: list[tuple[int, int]] = []
    request = BenchmarkRequest(files=(str(file),), target="simulated-phone")
    run_benchmark(request, lambda done, planned: steps.append((done, planned)))
    assert steps and steps[-1][0] == steps[-1][1]


def test_a_request_is_checked_before_anything_is_measured(
    tmp_path: Path, write_net: NetWriter
) -> None:
    file = str(write_net(tmp_path / "a.tflite"))
    with pytest.raises(UnknownName, match="no device named 'pixel', did you mean 'pixel"):
        Benchmark(BenchmarkRequest(files=(file,), target="pixel"))
    with pytest.raises(UsageError, match="--per-op: expected batch size 1, got 8"):
        Benchmark(BenchmarkRequest(files=(file,), batches=(8,), per_op=True))
