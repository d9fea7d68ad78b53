"""Threads are measured where they help, and a run keeps its number."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from hwnas import processes
from hwnas.processes import physical_cores
from hwnas.specialize.setup.device import settle_compute
from hwnas.specialize.setup.work.threads import fewest_threads
from hwnas.specialize.spec import RunSpec


def test_the_fewest_threads_near_the_best_time_are_taken() -> None:
    assert fewest_threads({1: 10.0, 2: 5.4, 4: 5.0, 8: 5.2}) == 2
    assert fewest_threads({1: 10.0, 2: 9.5}) == 1
    assert fewest_threads({1: 10.0, 2: 5.0, 4: 2.5}) == 4


def test_cores_are_physical_ones_within_mask_and_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(psutil, "cpu_count", lambda logical: 8)
    monkeypatch.setattr(processes, "cores", lambda: 16)
    assert physical_cores(quota) == 8
    for text, count in (("max 100000", 8), ("350000 100000", 3), ("50000 100000", 1)):
        quota.write_text(text)
        assert physical_cores(quota) == count
    monkeypatch.setattr(processes, "cores", lambda: 2)
    assert physical_cores(tmp_path / "none") == 2


def test_a_run_keeps_the_threads_that_were_measured(tmp_path: Path) -> None:
    spec = RunSpec(device="auto", amp="none")
    assert settle_compute(spec, tmp_path, lambda _: 4).threads == 4
    assert settle_compute(spec, tmp_path, lambda _: 2).threads == 4
    assert settle_compute(RunSpec(threads=3), None, lambda _: 2).threads == 3
