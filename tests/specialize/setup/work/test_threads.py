"""The number of threads is chosen by measurement where more can help, and a resumed run uses the
same number."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hwnas import processes
from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.processes import physical_cores
from hwnas.spaces.elastic.space import elastic_space
from hwnas.specialize.setup import device
from hwnas.specialize.setup.device import settle_compute
from hwnas.specialize.setup.work.pace import Setting
from hwnas.specialize.setup.work.threads import fewest_threads, supernet_threads
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import CPU, Compute


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


@pytest.mark.parametrize("compute", [CPU, Compute("cuda:0")], ids=["CPU", "GPU"])
@pytest.mark.parametrize(("size", "threads"), [(160, 4), (64, 1)])
def test_a_trained_network_is_tuned_or_cut_on_all_cores_if_its_images_are_photos(
    size: int, threads: int, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "physical_cores", lambda: 4)
    blocks = (
        Block("conv", 3, 8, 3, 2, 1, size),
        Block("mbconv", 8, 8, 3, 1, 6, size // 2),
        Block("logits", 8, 5, 1, 1, 1, size // 2),
    )
    original = Architecture(Genotype("", ()), blocks, (3, size, size), 5)
    images: Any = SimpleNamespace(input_shape=original.input_shape)
    costs: Any = None
    setting = Setting(RunSpec(), images, elastic_space("cut", original), costs, 1.0, compute)
    assert supernet_threads(setting, compute) == threads
