"""A run opens each device and data set once, also those that are given as objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.console import QuietConsole
from hwnas.data.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.profiling.setup import load_space
from hwnas.specialize.flow import plan, specialize
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup import resolve, target
from hwnas.specialize.spec import RunSpec, Share, read_spec
from tests.support.reporting.sample_run import PHONE, make_small, put_phone_table, write_images

BUDGETS = Share(0.4), Share(0.7)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch)
    put_phone_table()
    return write_images(tmp_path / "images.npz")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count how often each device and data set is opened, and how often a device is closed."""
    counts: Counter[str] = Counter()

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(what: Any, **options: Any) -> Any:
            counts[getattr(what, "name", what)] += 1
            return function(what, **options)

        return call

    def open_runner(profile: Any) -> Any:
        runner = counted_runner(profile)
        close = runner.close
        monkeypatch.setattr(runner, "close", lambda: (counts.update(["closed"]), close()))
        return runner

    counted_runner = counted(target.open_runner)
    monkeypatch.setattr(target, "open_runner", open_runner)
    monkeypatch.setattr(resolve, "load_dataset", counted(resolve.load_dataset))
    return counts


def test_the_plan_of_a_sweep_opens_everything_once(data: Path, opened: Counter[str]) -> None:
    spec = RunSpec(
        targets=(PHONE.name,),
        data=str(data),
        budgets=BUDGETS,
        resolutions=(16,),
        width_mults=(1.0,),
    )
    report = plan(spec, QuietConsole())
    first, second = report.results
    assert first.budget_ms / second.budget_ms == pytest.approx(4 / 7)
    assert opened == {PHONE.name: 1, str(data): 1, "closed": 1}


def test_a_run_takes_a_data_set_and_a_profile_as_objects(
    data: Path, opened: Counter[str], tmp_path: Path
) -> None:
    dataset, folder = load_dataset(str(data)), tmp_path / "run"
    profile = msgspec.structs.replace(PHONE, name="my-phone")
    spec = RunSpec(targets=("my-phone",), data="ignored", budgets=BUDGETS[:1], strategy="random")
    report = specialize(spec, folder, QuietConsole(), dataset=dataset, profiles=[profile])
    [result] = report.results
    assert (result.target, result.verdict) == ("my-phone", "kept")
    assert report.dataset is not None and report.dataset.digest == dataset.digest
    assert report.dataset.name == dataset.name
    stored = read_spec(folder)
    assert opened == {"my-phone": 1, stored.data: 1, "closed": 1}
    # nothing but the folder is needed to resume it
    assert specialize(stored, folder, QuietConsole(), resume=True).results == report.results


def test_a_run_is_not_resumed_with_another_specification(tmp_path: Path) -> None:
    spec = RunSpec(strategy="eas", strategy_options={"ray": "a:1", "shrink": False})
    RunFolder.open(tmp_path, spec, resume=False).close()
    elsewhere = msgspec.structs.replace(spec, strategy_options={"shrink": False})
    RunFolder.open(tmp_path, elsewhere, resume=True).close()  # where it trains changes no result
    for changes in ({"seed": 1}, {"strategy_options": {"ray": "a:1"}}):
        other = msgspec.structs.replace(spec, **changes)
        with pytest.raises(UsageError, match="the run to resume has --"):
            RunFolder.open(tmp_path, other, resume=True)


def test_latency_models_are_told_apart_by_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "model_of", lambda target, space, console, name: object())
    data = load_dataset("fashion-mnist-6k")
    with resolve.Resources(QuietConsole()) as resources:
        phone = resources.target(PHONE.name)
        single, int8 = (
            resources.latency_model(phone, load_space("mobile", data, precision), "")
            for precision in ("fp32", "int8")
        )
        again = resources.latency_model(phone, load_space("mobile", data), "")
    assert single is again is not int8
