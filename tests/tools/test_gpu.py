"""The GPU's evaluation at tiny sizes on the CPU: its parts run, and a failing part is reported."""

from __future__ import annotations

import pytest
import torch

from tools.bench.gpu import run
from tools.bench.gpu.agreement import compare, difference, works
from tools.bench.gpu.run import PARTS, Part, run_part
from tools.bench.gpu.scale import Scale
from tools.bench.gpu.throughput import memory

CPU = Scale("cpu", small=True)


def test_a_cpu_agrees_with_itself() -> None:
    rows = compare("two", works(CPU)["proxyless, two"], CPU)
    assert [row["type"] for row in rows] == ["float64", "float32"]
    assert all(row["difference"] == 0 for row in rows)


def test_a_difference_is_relative_and_of_the_worst_tensor() -> None:
    expected = {"a": torch.full((4,), 2.0), "b": torch.ones(4), "count": torch.tensor(3)}
    actual = {"a": torch.full((4,), 2.2), "b": torch.full((4,), 1.5), "count": torch.tensor(9)}
    assert difference(expected, actual) == pytest.approx(0.5)


def test_the_memory_of_an_image_is_not_known_on_a_cpu() -> None:
    [row] = memory(CPU)
    assert row["bytes per image"] is None


def test_a_part_runs_in_a_process_of_its_own() -> None:
    outcome = run_part("machine", CPU, 60)
    assert outcome.failure == "" and outcome.rows[0]["torch"] == str(torch.__version__)


def test_a_part_that_fails_or_hangs_costs_its_own_figures_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_part("machine", Scale("cuda:99", small=True), 60).failure != ""
    monkeypatch.setitem(run.PARTS, "machine", Part("Machine", 0.1, PARTS["machine"].run))
    outcome = run_part("machine", Scale("cpu"), 60)
    assert outcome.failure == "not done in 0 s" and outcome.rows == []
    assert run_part("machine", Scale("cpu"), -1.0).failure == "no time left of 480 s"
