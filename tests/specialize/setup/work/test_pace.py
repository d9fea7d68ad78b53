"""The speed of steps, and plans made from it, with a clock that the tests set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hwnas.files import read_json, write_json
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.registry import load_strategy
from hwnas.specialize.setup.effort import WorkPlan
from hwnas.specialize.setup.resolve import Resources, open_run, resolve
from hwnas.specialize.setup.work import pace as pace_module
from hwnas.specialize.setup.work import settle
from hwnas.specialize.setup.work.pace import (
    Pace,
    begin_search,
    measure_pace,
    step_s,
    training_pace,
    typical_network,
)
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.steps import training_setup as train_module
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.specialize.sweep import scenarios
from hwnas.training.compute import CPU
from hwnas.training.plan import TrainingPlan
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import put_phone_table, write_images
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space(widths=(8,))
NETWORK = SPACE.architecture(SPACE.default)
PACE = Pace(weight_ms=2.0, arch_ms=4.0, training_ms=1.0)


class Clock:
    """A clock that stands still, or goes on by ``tick_s`` whenever it is read."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.now_s, self.tick_s = 0.0, tick_s

    def __call__(self) -> float:
        self.now_s += self.tick_s
        return self.now_s


def test_the_first_step_is_not_timed_and_the_others_are_averaged() -> None:
    clock, times_s = Clock(), iter([100.0, *[2.0] * 99])

    def step() -> Tensor:
        clock.now_s += next(times_s)
        return torch.zeros(())

    assert step_s(step, 20.0, clock) == pytest.approx(2.0)
    assert clock.now_s - 100 <= 20.0
    assert step_s(lambda: None, 20.0, clock) == 0.0


def test_a_training_is_timed_in_its_own_loop_and_ends_in_time() -> None:
    clock = Clock(tick_s=1.0)  # read once a step
    image_ms = training_pace(NETWORK, tiny_data(64), TrainingPlan(batch_size=8), 5.0, clock)
    assert image_ms == pytest.approx(1000 / 8)
    assert clock.now_s == 6


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunSpec:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    put_phone_table()
    data = write_images(tmp_path / "images.npz", 120, 30)
    return RunSpec(targets=("simulated-phone",), data=str(data), minutes=1.0)


@pytest.mark.parametrize("strategy", ["proxyless", "random"])
def test_every_kind_of_step_of_a_run_is_measured(
    spec: RunSpec, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = resolve(spec, Resources(RecordingConsole()))
    setting = run.setting(run.latency_model(), CPU)
    setting = setting._replace(spec=RunSpec(strategy=strategy))
    plan = settle.work_plan(spec, run.dataset, run.space, RecordingConsole())
    monkeypatch.setattr(pace_module, "training_threads", lambda size, networks: networks)
    threads = list[int]()

    def timed(*given: Any) -> float:
        threads.append(torch.get_num_threads())
        return training_pace(*given)

    monkeypatch.setattr(pace_module, "training_pace", timed)
    pace = measure_pace(setting, plan, 0.01)
    assert pace.weight_ms > 0 and pace.training_ms > 0
    assert threads == [plan.effort.trained + plan.effort.baselines]
    assert (pace.arch_ms > 0) == (strategy == "proxyless")
    search = begin_search(setting, 0.1, accumulate=3)
    assert isinstance(search, ProxylessGradient | RandomSearch)
    assert type(search) is load_strategy(strategy) and search.weights.accumulate == 3
    cost = setting.costs.network_ms(run.space.default.choices)
    assert typical_network(setting._replace(budget_ms=cost)) == run.space.architecture(
        run.space.default
    )


def test_a_run_of_given_minutes_is_planned_once_and_says_how(
    spec: RunSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "measure_pace", lambda *_: PACE)
    console = RecordingConsole()
    with open_run(spec, tmp_path / "run", Resources(console), False) as run:
        plan = WorkPlan(run.effort, run.search_plan, run.training_plan)
    assert read_json(tmp_path / "run" / "plan.json", WorkPlan) == plan
    assert plan.search.warmup_epochs == 30  # all that a quick run may have
    [line] = [line for line in console.lines if line.startswith("1 min:")]
    assert line.startswith(
        "1 min: 500 (weight steps), 250 (architecture steps), 1e+03 (training) images/s measured; "
        "30 + 19 epochs of search, 80 networks judged on the supernet, then 4 networks trained "
        "for 60 epochs"
    )
    monkeypatch.setattr(settle, "measure_pace", lambda *_: pytest.fail("planned again"))
    with open_run(spec, tmp_path / "run", Resources(console), True) as again:
        assert WorkPlan(again.effort, again.search_plan, again.training_plan) == plan


def test_the_runs_of_a_sweep_share_the_time() -> None:
    spec = RunSpec(targets=("a", "b"), minutes=30.0)
    assert [run.spec.minutes for run in scenarios(spec, Path("run"))] == [15, 15]
    [run] = scenarios(RunSpec(minutes=30.0), Path("run"))
    assert run.spec.minutes == 30


def test_a_training_of_given_minutes_has_the_epochs_that_its_speed_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "network.json", NETWORK)
    data = tiny_data(96)
    pixels, labels = (part.numpy() for part in data.tensors()[:2])
    images = pixels.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    spec = TrainSpec(
        architecture=str(tmp_path / "network.json"), data=str(tmp_path / "images.npz"), minutes=1.0
    )
    # 76 training images of 250 ms are an epoch of 19 s
    monkeypatch.setattr(train_module, "training_pace", lambda *_: 250.0)
    console = RecordingConsole()
    result = train_network(spec, tmp_path / "out", console=console)
    assert result.epochs == read_json(tmp_path / "out" / "plan.json", TrainingPlan).epochs == 3
    # three whole ones, and the evaluation, would take longer than a minute
    [line] = [line for line in console.lines if line.startswith("1 min: ")]
    assert line.startswith("1 min: 4 images/s measured; 3 epochs (")
