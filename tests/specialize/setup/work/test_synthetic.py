"""Speed of training and search steps, on synthetic images of a few pixels."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from hwnas.cli.main import cli
from hwnas.specialize.setup.work import synthetic
from hwnas.specialize.setup.work.pace import Pace
from hwnas.specialize.setup.work.synthetic import (
    BATCHES,
    TrainingSpeed,
    Workload,
    begin_synthetic_search,
    default_workloads,
    synthetic_data,
)
from hwnas.training.compute import CPU, Compute

TINY = Workload((1, 16, 16), 3, batch_size=4, epoch_images=600)


def test_an_hour_is_expressed_in_epochs() -> None:
    speed = TrainingSpeed(CPU, TINY, Pace(weight_ms=1.0, arch_ms=1.0, training_ms=100.0), 0)
    assert speed.epochs_per_hour == 60
    # an architecture step after every second weight step
    assert speed.search_epochs_per_hour == pytest.approx(4000)


def test_the_doctor_prints_what_an_hour_is_enough_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pace = Pace(weight_ms=10.0, arch_ms=20.0, training_ms=5.0)
    monkeypatch.setattr(synthetic, "local_computes", lambda: [Compute()])
    monkeypatch.setattr(synthetic, "default_workloads", lambda compute: (TINY,))
    monkeypatch.setattr(
        synthetic,
        "measure_training_speed",
        lambda workload, compute: TrainingSpeed(compute, workload, pace, 3_000_000_000),
    )
    result = CliRunner().invoke(cli, ["devices", "doctor", "--training"])
    assert result.exit_code == 0, result.output
    assert "timing steps on cpu, images of 1x16x16" in result.stderr
    row = next(line for line in result.stdout.splitlines() if "1x16x16" in line)
    # 600 images take 3 s of training and 12 s of a search
    assert row.split()[-8:] == ["4", "200", "100", "50", "3.0", "600", "1,200", "300"]


def test_steps_on_a_gpu_take_larger_batches_of_the_same_images() -> None:
    on_cpu, on_gpu = (default_workloads(each) for each in (CPU, Compute("cuda:0")))
    for small, large in zip(on_cpu, on_gpu, strict=True):
        assert large.batch_size > small.batch_size
        assert large.input_shape == small.input_shape


def test_the_synthetic_images_have_all_classes() -> None:
    data = synthetic_data(TINY, CPU)
    assert data.images.shape == (BATCHES * 4, 1, 16, 16) and set(data.labels.tolist()) == {0, 1, 2}


def test_a_search_step_needs_no_measured_latencies() -> None:
    search = begin_synthetic_search(TINY.space, CPU, "two")
    assert search.estimator == "two"
    assert search.architecture_step(next(synthetic_data(TINY, CPU).in_order(4))) is not None


def test_an_architecture_step_computes_all_candidates_of_each_decision() -> None:
    search = begin_synthetic_search(TINY.space, CPU)
    batch = next(synthetic_data(TINY, CPU).in_order(4))
    with FlopCounterMode(display=False) as weight_step:
        search.weight_step(batch, 0.01)
    with FlopCounterMode(display=False) as architecture_step:
        search.architecture_step(batch)
    assert architecture_step.get_total_flops() > weight_step.get_total_flops() > 0


def test_the_doctor_times_each_kind_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "LIMIT_S", 0.2)
    monkeypatch.setattr(synthetic, "local_computes", lambda: [Compute()])
    monkeypatch.setattr(synthetic, "default_workloads", lambda compute: (TINY,))
    threads = torch.get_num_threads()
    result = CliRunner().invoke(cli, ["devices", "doctor", "--training", "--json"])
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.output
    [speed] = json.loads(result.stdout)
    pace = speed["pace"]
    assert min(pace["training_ms"], pace["arch_ms"], pace["weight_ms"]) > 0
    assert speed["peak_bytes"] > 0
