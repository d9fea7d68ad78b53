"""Metrics of a run, sent to an experiment tracker while it trains.

A tracker is any object with the two methods of `Tracker`. TensorBoard and MLflow are extras; their
packages are imported when they are chosen.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import msgspec

from hwnas.errors import UnknownName, UsageError, first_line

MIN_INTERVAL_S = 1.0
"""Least time between two points of a metric that is sent at every step of a search."""
PLACES = ("epoch", "epochs", "step")
"""Fields of a log line that say when it was, and are no metrics."""


class Tracker(Protocol):
    """Where metrics go: implement it for another experiment tracker."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record metrics by name, such as ``search/loss``, at a step or an epoch."""
        ...

    def close(self) -> None:
        """Write what is buffered; no metrics come after it."""
        ...


class Tracking:
    """Sends metrics to a tracker under a prefix; without a tracker, nowhere.

    A tracker that fails, because its server is down or its disk is full, is not called again: its
    error is printed, and the run goes on.
    """

    def __init__(self, tracker: Tracker | None = None, warn: Callable[[str], None] = print) -> None:
        self._tracker, self._warn = tracker, warn
        self._sent_s: dict[str, float] = {}

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send metrics."""
        if self._tracker is not None:
            self._try(self._tracker.log, step, metrics)

    def log_line(self, group: str, step: int, line: msgspec.Struct) -> None:
        """Send the numbers of a line of a log as ``group/field``."""
        self.log(step, {f"{group}/{name}": value for name, value in _numbers(line).items()})

    def sample_line(self, group: str, step: int, line: msgspec.Struct) -> None:
        """Send a line unless one of the same group was sent less than `MIN_INTERVAL_S` ago."""
        now = time.monotonic()
        if now - self._sent_s.get(group, -MIN_INTERVAL_S) >= MIN_INTERVAL_S:
            self._sent_s[group] = now
            self.log_line(group, step, line)

    def close(self) -> None:
        if self._tracker is not None:
            self._try(self._tracker.close)

    def _try(self, call: Callable[..., None], *values: Any) -> None:
        try:
            call(*values)
        except Exception as error:  # whatever a tracker raises
            self._tracker = None
            self._warn(f"tracking stops, the run goes on: {first_line(error)}")


NO_TRACKING = Tracking()


def _numbers(line: msgspec.Struct) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in msgspec.structs.asdict(line).items()
        if isinstance(value, int | float) and name not in PLACES
    }


class Prefixed:
    """Puts ``PREFIX/`` before the names of metrics: for several runs in one tracker."""

    def __init__(self, tracking: Tracking, prefix: str) -> None:
        self._tracking, self._prefix = tracking, prefix

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        prefixed = {f"{self._prefix}/{name}": value for name, value in metrics.items()}
        self._tracking.log(step, prefixed)

    def close(self) -> None:
        """Do nothing; the tracker belongs to all runs."""


class TensorBoard:
    """Event files in ``FOLDER/tensorboard``: ``tensorboard --logdir FOLDER`` shows them."""

    def __init__(self, folder: Path) -> None:
        self._module, self._folder = _import("torch.utils.tensorboard", "tensorboard"), folder
        self._writer: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:
            self._writer = self._module.SummaryWriter(str(self._folder / "tensorboard"))
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Mlflow:
    """A run of MLflow with the folder's name; ``MLFLOW_TRACKING_URI`` names the server.

    The run's id is written to ``FOLDER/mlflow.txt``, so that a resumed run goes on in it. MLflow
    shows a run that was interrupted as killed, and one that an error ended as failed.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `UsageError` where MLflow has no store for its URI; a server is not asked."""
        self._module, self._folder = _import("mlflow", "mlflow"), folder
        self._started = False
        try:
            self._module.MlflowClient()
        except Exception as error:  # MLflow's own, and those of its databases
            raise UsageError(
                f"--track mlflow: {self._module.get_tracking_uri()} can't be used "
                f"({first_line(error).partition('. ')[0]}); set MLFLOW_TRACKING_URI to a server, "
                "or pip install mlflow: mlflow-skinny has no store of its own"
            ) from None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if not self._started:
            self._start()
        self._module.log_metrics(dict(metrics), step=step)

    def close(self) -> None:
        if self._started:
            self._module.end_run(status=_status(sys.exception()))

    def _start(self) -> None:
        place = self._folder / "mlflow.txt"
        if place.exists():
            self._module.start_run(run_id=place.read_text("utf-8").strip())
        else:
            folder = self._folder.resolve()
            run = self._module.start_run(run_name=folder.name, tags={"hwnas.folder": str(folder)})
            place.write_text(run.info.run_id, "utf-8")
        self._started = True


def _status(error: BaseException | None) -> str:
    """Return MLflow's word for how a run ended."""
    if error is None:
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


TRACKERS: dict[str, Callable[[Path], Tracker]] = {"tensorboard": TensorBoard, "mlflow": Mlflow}
"""Trackers by the name that ``--track`` takes."""


def open_tracker(name: str | None, folder: Path) -> Tracker | None:
    """Return the tracker of that name for a run in ``folder``; ``None`` for no name.

    It writes nothing of the run before the first metrics. Raises `UsageError` if its package is not
    installed, or has no place to write to.
    """
    if name is None:
        return None
    if name not in TRACKERS:
        raise UnknownName("tracker", name, TRACKERS)
    return TRACKERS[name](folder)


def _import(module: str, package: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(
            f"--track {package}: the package {package} is not installed; "
            f"pip install 'hwnas[{package}]'"
        ) from None
