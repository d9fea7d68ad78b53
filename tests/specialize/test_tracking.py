"""Metrics reach a tracker by their names, and a tracker that fails stops no run."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from hwnas.console import QuietConsole
from hwnas.errors import UsageError
from hwnas.search.log import LogLine
from hwnas.specialize import tracking as module
from hwnas.specialize.setup.resolve import Resources
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.specialize.tracking import NO_TRACKING, Mlflow, TensorBoard, Tracking, open_tracker
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import SPACE, write_images
from tests.support.reporting.trackers import Recorder

LINE = LogLine(loss=1.5, accuracy=0.25, epoch=3, step=40, phase="search", expected_ms=2.0)


def test_a_line_is_its_numbers_under_the_name_of_its_group() -> None:
    recorder = Recorder()
    Tracking(recorder).log_line("search", 40, LINE)
    expected = {"search/loss": 1.5, "search/accuracy": 0.25, "search/expected_ms": 2.0}
    assert recorder.points == [(40, expected)]


def test_lines_of_a_group_are_sampled_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 0.5, 0.6, 1.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(now)))
    recorder, groups = Recorder(), ["a", "a", "b", "a"]
    tracking = Tracking(recorder)
    for step, group in enumerate(groups):
        tracking.sample_line(group, step, LINE)
    assert [step for step, _ in recorder.points] == [0, 2, 3]


def test_a_tracker_that_fails_is_reported_once_and_not_called_again() -> None:
    recorder, warnings = Recorder(fails_at=1), list[str]()
    tracking = Tracking(recorder, warnings.append)
    for step in range(4):
        tracking.log(step, {"loss": 1.0})
    tracking.close()
    assert len(recorder.points) == 1 and recorder.closed == 0
    assert warnings == ["tracking stops, the run goes on: the server"]


def test_a_lost_tracker_is_told_to_who_wants_the_result_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    architecture = SPACE.architecture(SPACE.uniform(SPACE.candidates[0]))
    (tmp_path / "net.json").write_bytes(msgspec.json.encode(architecture))
    data = write_images(tmp_path / "images.npz", train=60, test=20)
    spec = TrainSpec(architecture=str(tmp_path / "net.json"), data=str(data), epochs=1)
    recorder = Recorder(fails_at=0)
    train_network(spec, tmp_path / "out", console=QuietConsole(), tracker=recorder)
    assert capsys.readouterr() == ("", "tracking stops, the run goes on: the server\n")


def test_the_runs_of_a_sweep_share_a_tracker_and_differ_in_their_prefix(tmp_path: Path) -> None:
    recorder = Recorder()
    tracking = Tracking(recorder)
    resources = Resources(QuietConsole(), tracking, tmp_path)
    assert resources.tracking_of(tmp_path) is tracking
    resources.tracking_of(tmp_path / "scenarios" / "10ms").log(1, {"search/loss": 2.0})
    assert recorder.points == [(1, {"scenarios/10ms/search/loss": 2.0})]
    assert Resources(QuietConsole()).tracking_of(tmp_path) is NO_TRACKING


def test_a_training_sends_each_epoch_with_its_speed_then_its_result_and_closes(
    tmp_path: Path,
) -> None:
    architecture = SPACE.architecture(SPACE.uniform(SPACE.candidates[0]))
    (tmp_path / "net.json").write_bytes(msgspec.json.encode(architecture))
    data = write_images(tmp_path / "images.npz", train=60, test=20)
    spec = TrainSpec(
        architecture=str(tmp_path / "net.json"), data=str(data), epochs=2, batch_size=8
    )
    recorder, console = Recorder(), RecordingConsole()
    result = train_network(spec, tmp_path / "out", console=console, tracker=recorder)
    [(first, epoch), (second, _), (_, final)] = recorder.points
    assert (first, second) == (1, 2) and recorder.closed == 1
    assert epoch["training/images_per_s"] > 0 and 0 <= epoch["training/waiting"] <= 1
    assert final["result/validation_accuracy"] == result.validation_accuracy
    lines = [line for line in console.lines if line.startswith("epoch ")]
    assert len(lines) == 2 and all("img/s" in line and "GB of memory" in line for line in lines)
    steps, total, remark = console.progress[-1]
    assert steps == total and "img/s" in remark


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **content: Any) -> None:
    made = ModuleType(name)
    made.__dict__.update(content)
    monkeypatch.setitem(sys.modules, name, made)


def test_tensorboard_gets_a_scalar_for_each_metric(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            calls.append((folder,))

        def add_scalar(self, *values: Any) -> None:
            calls.append(values)

        def close(self) -> None:
            calls.append(("closed",))

    fake_module(monkeypatch, "torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    board = TensorBoard(tmp_path)
    assert calls == []  # nothing is written before there is something
    board.log(7, {"a/b": 1.0, "c": 2.0})
    board.close()
    assert calls == [(str(tmp_path / "tensorboard"),), ("a/b", 1.0, 7), ("c", 2.0, 7), ("closed",)]


def test_a_resumed_run_goes_on_in_its_run_of_mlflow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []

    def start_run(**names: Any) -> Any:
        started.append(names)
        return SimpleNamespace(info=SimpleNamespace(run_id="abc"))

    fake_module(
        monkeypatch,
        "mlflow",
        MlflowClient=object,
        start_run=start_run,
        log_metrics=lambda metrics, step: logged.append((metrics, step)),
        end_run=lambda status: started.append({"ended": status}),
    )
    with pytest.raises(KeyboardInterrupt), closing(Mlflow(tmp_path)) as tracker:
        tracker.log(1, {"loss": 0.5})
        raise KeyboardInterrupt
    with closing(Mlflow(tmp_path)) as tracker:
        tracker.log(2, {"loss": 0.5})
    assert started == [
        {"run_name": tmp_path.name, "tags": {"hwnas.folder": str(tmp_path)}},
        {"ended": "KILLED"},
        {"run_id": "abc"},
        {"ended": "FINISHED"},
    ]
    assert logged == [({"loss": 0.5}, 1), ({"loss": 0.5}, 2)]


def test_a_place_that_mlflow_cannot_open_is_an_error_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse() -> None:
        raise RuntimeError("unsupported URI 'sqlite:///mlflow.db'. Supported are others. See there")

    fake_module(
        monkeypatch,
        "mlflow",
        MlflowClient=refuse,
        get_tracking_uri=lambda: "sqlite:///mlflow.db",
    )
    with pytest.raises(UsageError, match=r"can't be used \(unsupported URI .*db'\); set MLFLOW_T"):
        open_tracker("mlflow", tmp_path)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow"])
def test_a_missing_package_is_an_error_before_any_work(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=rf"pip install 'hwnas\[{name}\]'"):
        open_tracker(name, tmp_path)
