"""What `trtexec` prints becomes one observation of a network; its transfers are told apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwnas.cli.latency import latency
from hwnas.errors import InvalidFile, UsageError
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.importers.trtexec import is_trtexec, parse_trtexec, read_trtexec
from hwnas.spaces.published import published

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
        words = ("import", str(tmp_path / "trt.log"), "--device", "orin", *words)
        said = CliRunner().invoke(latency, [*words, "--out", str(out)], catch_exceptions=False)
        assert said.exit_code == 0
        return said.output

    text = call("--network", "proxyless_gpu")
    assert "computing on the GPU" in text and "unstable: " in text and "1 network of orin" in text
    call("--network", "proxyless_gpu")  # measured again: its row is replaced
    told = json.loads(call("--network", "proxyless_mobile", "--json"))
    assert told["times"]["compute"]["median_ms"] == 0.81
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 2 and rows[0]["comment"] == "trt.log"
    first, _ = read_observations(out).observations
    assert (first.what, first.ms) == ("network", 0.81)
    blocks = published("proxyless_gpu").architecture.blocks
    assert first.keys == tuple(one.key for one in blocks if one.op != "identity")


def test_a_file_of_other_columns_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "trt.log").write_text(NEW)
    out = tmp_path / "mine.csv"
    out.write_text("key,median_us\nconv,850\n")
    words = ["import", str(tmp_path / "trt.log"), "--device", "orin", "--network", "proxyless_gpu"]
    with pytest.raises(UsageError, match=r"mine\.csv: has the columns key,median_us, expected key"):
        CliRunner().invoke(latency, [*words, "--out", str(out)], catch_exceptions=False)
    assert out.read_text() == "key,median_us\nconv,850\n"


def test_a_log_without_its_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trt.log").write_text(NEW)
    with pytest.raises(UsageError, match="--network names the"):
        CliRunner().invoke(
            latency,
            ["import", str(tmp_path / "trt.log"), "--device", "orin"],
            catch_exceptions=False,
        )
