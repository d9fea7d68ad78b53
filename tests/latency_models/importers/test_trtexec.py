"""What `trtexec` prints becomes the observation of a network; its transfers are separate."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwnas.cli.latency.group import latency
from hwnas.errors import InvalidFile, UsageError
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.importers.trtexec.inputs import read_inputs
from hwnas.latency_models.importers.trtexec.log import is_trtexec, parse_trtexec, read_trtexec
from hwnas.spaces.published import published

HEAD = """&&&& RUNNING TensorRT.trtexec [TensorRT v100001] # trtexec --onnx=a.onnx
[05/21/2024-09:59:00] [I] === Inference Options ===
[05/21/2024-09:59:00] [I] Batch: {option}
[05/21/2024-09:59:00] [I] Input inference shape : {requested}
"""
BOUND = "[05/21/2024-09:59:59] [I] {made} for images with dimensions {shape}{end}\n"
NEW = """[05/21/2024-10:00:00] [I] === Performance summary ===
[05/21/2024-10:00:00] [I] Throughput: 1210.33 qps
[05/21/2024-10:00:00] [I] Latency: min = 0.871 ms, max = 1.92 ms, mean = 0.912 ms, median = \
0.9 ms, percentile(90%) = 0.95 ms, percentile(95%) = 0.97 ms, percentile(99%) = 1.1 ms
[05/21/2024-10:00:00] [I] Enqueue Time: min = 0.1 ms, max = 0.4 ms, mean = 0.12 ms, median = \
0.11 ms, percentile(90%) = 0.13 ms, percentile(95%) = 0.14 ms, percentile(99%) = 0.2 ms
[05/21/2024-10:00:00] [I] H2D Latency: min = 0.04 ms, max = 0.1 ms, mean = 0.05 ms, median = 0.05 \
ms, percentile(90%) = 0.06 ms, percentile(95%) = 0.06 ms, percentile(99%) = 0.07 ms
[05/21/2024-10:00:00] [I] GPU Compute Time: min = 0.79 ms, max = 1.8 ms, mean = 0.82 ms, median = \
0.81 ms, percentile(90%) = 0.85 ms, percentile(95%) = 0.88 ms, percentile(99%) = 1.0 ms
[05/21/2024-10:00:00] [I] D2H Latency: min = 0.004 ms, max = 0.02 ms, mean = 0.005 ms, median = \
0.005 ms, percentile(90%) = 0.006 ms, percentile(95%) = 0.006 ms, percentile(99%) = 0.009 ms
[05/21/2024-10:00:00] [I] Total Host Walltime: 3.00201 s
[05/21/2024-10:00:00] [I] Total GPU Compute Time: 2.97824 s
[05/21/2024-10:00:00] [W] * GPU compute time is unstable, with coefficient of variance = 7.58%.
"""
OLD = """[I] Throughput: 94.3 qps
[I] GPU Compute
[I] min: 9.5 ms
[I] GPU Compute: min = 9.5 ms, max = 14.2 ms, mean = 10.4 ms, percentile: 13.9 ms at 99%
"""


def test_the_summary_is_read_with_transfers_and_the_warning() -> None:
    times = parse_trtexec(NEW)
    assert times is not None
    assert (times.compute.median_ms, times.compute.percentiles_ms["99"]) == (0.81, 1.0)
    assert times.to_gpu is not None and times.from_gpu is not None and times.latency is not None
    assert (times.to_gpu.median_ms, times.from_gpu.median_ms) == (0.05, 0.005)
    assert (times.latency.median_ms, times.throughput_per_s) == (0.9, 1210.33)
    assert times.runs is not None and times.runs == round(2978.24 / 0.82)
    assert times.unstable_cv == pytest.approx(0.0758)
    assert times.standard_error == pytest.approx(1.2533 * 0.0758 / times.runs**0.5)


def test_an_old_version_without_a_median_gives_its_mean() -> None:
    times = parse_trtexec(OLD)
    assert times is not None
    assert (times.compute.median_ms, times.compute.percentiles_ms) == (10.4, {"99": 13.9})
    assert times.latency is None and times.unstable_cv is None


@pytest.mark.parametrize("text", ["", "GPU Compute Time: soon", "GPU Compute Time: min = 1 ms, x"])
def test_a_log_without_a_summary_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.log").write_text(text)
    with pytest.raises(InvalidFile, match="expected trtexec's output"):
        read_trtexec(tmp_path / "a.log")


def test_only_its_own_output_is_taken_for_trtexecs(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(NEW)
    (tmp_path / "a.csv").write_text("key,ms\n")
    assert is_trtexec(tmp_path / "a.log") and not is_trtexec(tmp_path / "a.csv")
    assert not is_trtexec(tmp_path / "nothing")


def test_a_log_becomes_an_observation_that_adapt_reads(tmp_path: Path) -> None:
    (tmp_path / "trt.log").write_text(NEW)
    out = tmp_path / "observations.csv"

    def call(*words: str) -> str:
        words = ("import", str(tmp_path / "trt.log"), "--device", "orin", "--batch", "1", *words)
        result = CliRunner().invoke(latency, [*words, "--out", str(out)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.output

    text = call("--network", "proxyless_gpu")
    assert "GPU compute" in text and "unstable: " in text and "1 network of orin" in text
    call("--network", "proxyless_gpu")  # measured again: its row is replaced
    document = json.loads(call("--network", "proxyless_mobile", "--json"))
    assert document["times"]["compute"]["median_ms"] == 0.81
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 2 and rows[0]["comment"] == "trt.log"
    first, _ = read_observations(out).observations
    assert (first.scope, first.ms) == ("network", 0.81)
    assert first.blocks == published("proxyless_gpu").architecture.compute_blocks


def log(
    option: str = "Explicit", requested: str = "model", bound: str = "", old: bool = False
) -> str:
    made, end = ("Created input binding", "") if old else ("Input binding", " is created.")
    text = HEAD.format(option=option, requested=requested)
    return text + (BOUND.format(made=made, shape=bound, end=end) if bound else "") + NEW


@pytest.mark.parametrize(
    ("text", "batch", "inputs_per_s"),
    [
        (log(bound="8x3x224x224"), 8, 8 * 1210.33),
        (log(bound="8x3x224x224", old=True), 8, 8 * 1210.33),
        (log(requested="images=4x3x224x224"), 4, 4 * 1210.33),
        (log(requested="images=4x3x224x224", bound="2x3x224x224"), 2, 2 * 1210.33),
        (log("1", bound="16x3x224x224"), 16, 16 * 1210.33),  # of an engine that was loaded
        (log("3"), 3, 1210.33),  # an implicit batch: its throughput counts inputs
        (log("3", bound="3x224x224"), 3, 1210.33),
        (log("1"), None, 1210.33),
        (NEW, None, 1210.33),
    ],
)
def test_a_batch_is_read_from_the_inputs_that_were_bound(
    text: str, batch: int | None, inputs_per_s: float
) -> None:
    times = parse_trtexec(text)
    assert times is not None
    assert times.inputs.batch("a.log", (3, 224, 224)) == batch
    assert times.inputs_per_s(batch or 1) == pytest.approx(inputs_per_s)


def test_a_log_of_another_input_is_refused() -> None:
    """trtexec takes 1 for every free axis without an explicit size."""
    with pytest.raises(
        InvalidFile, match=r"input of shape 1x3x1x1, expected 3x224x224 after the batch"
    ):
        read_inputs(log(bound="1x3x1x1")).batch("a.log", (3, 224, 224))
    two = log(bound="1x3x224x224") + BOUND.format(made="Input binding", shape="1", end="").replace(
        "images", "scale"
    )
    with pytest.raises(InvalidFile, match=r"2 inputs \(images, scale\), expected one"):
        read_inputs(two).batch("a.log", (3, 224, 224))


def test_of_several_runs_the_last_counts() -> None:
    other = log(bound="1x3x224x224").replace("median = 0.81 ms", "median = 0.5 ms")
    times = parse_trtexec(other + log(bound="8x3x224x224"))
    assert times is not None
    assert (times.compute.median_ms, times.inputs.batch("a", (3, 224, 224))) == (0.81, 8)
    assert parse_trtexec(other + HEAD) is None, "the last one failed"


def test_a_batch_is_kept_as_another_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    (tmp_path / "eight.log").write_text(log(bound="8x3x224x224"))
    (tmp_path / "plain.log").write_text(NEW)

    def call(*words: str) -> str:
        result = CliRunner().invoke(
            latency, ["import", *words, "--network", "proxyless_gpu"], catch_exceptions=False
        )
        assert result.exit_code == 0
        return result.output

    text = call(str(tmp_path / "eight.log"), "--device", "orin")
    assert "times of a call of 8 inputs; 0.1013 ms per input" in text
    assert "9683 inputs per second" in text and "1 network of orin-batch8" in text
    table = tmp_path / "latency_models" / "orin-batch8" / "observations.csv"
    assert "batch" in table.read_text()
    imported = read_observations(table)
    assert imported.observations[0].ms == 0.81 and "per call of 8 inputs" in imported.notes[0]
    document = json.loads(
        call(str(tmp_path / "plain.log"), "--device", "orin", "--batch", "8", "--json")
    )
    assert (document["device"], document["batch"], document["file"]) == (
        "orin-batch8",
        8,
        str(table),
    )
    with pytest.raises(InvalidFile, match=r"has latencies of batch 8, the log has batch 1"):
        call(str(tmp_path / "plain.log"), "--device", "orin", "--batch", "1", "--out", str(table))
    with pytest.raises(
        UsageError, match="device 'orin-batch4' is for batch 4, the log has batch 8"
    ):
        call(str(tmp_path / "eight.log"), "--device", "orin-batch4")
    with pytest.raises(UsageError, match=r"--batch 1: \S+ states a batch of 8"):
        call(str(tmp_path / "eight.log"), "--device", "orin", "--batch", "1")
    with pytest.raises(UsageError, match=r"does not state how many inputs .*: expected --batch N"):
        call(str(tmp_path / "plain.log"), "--device", "orin")


def test_a_table_of_several_batches_is_refused(tmp_path: Path) -> None:
    key = published("proxyless_gpu").architecture.blocks[0].key
    (tmp_path / "a.csv").write_text(f"key,ms,batch\n{key},1,1\n{key},5,8\n")
    with pytest.raises(InvalidFile):
        read_observations(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text(
        f"key,ms,scope,batch\n{key},1,in_network,1\n{key},5,isolated,8\n"
    )
    with pytest.raises(InvalidFile, match="has rows of the batches 1, 8"):
        read_observations(tmp_path / "b.csv")


def test_a_file_of_other_columns_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "trt.log").write_text(NEW)
    out = tmp_path / "mine.csv"
    out.write_text("key,median_us\nconv,850\n")
    words = ["import", str(tmp_path / "trt.log"), "--device", "orin", "--batch", "1"]
    words += ["--network", "proxyless_gpu"]
    with pytest.raises(UsageError, match=r"mine\.csv: has the columns key,median_us, expected key"):
        CliRunner().invoke(latency, [*words, "--out", str(out)], catch_exceptions=False)
    assert out.read_text() == "key,median_us\nconv,850\n"


def test_a_log_without_its_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trt.log").write_text(NEW)
    with pytest.raises(UsageError, match="expected --network with the"):
        CliRunner().invoke(
            latency,
            ["import", str(tmp_path / "trt.log"), "--device", "orin"],
            catch_exceptions=False,
        )
