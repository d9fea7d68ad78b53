"""The run folder: configuration, manifest, lock, journals, times of the stages."""

from __future__ import annotations

import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Self

import msgspec

from hwnas import __version__
from hwnas.errors import HwnasError, InvalidFile, UsageError
from hwnas.files import append_line, read_lines, write_atomic, write_json
from hwnas.measurement.measurement import Measurement

PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "ai-edge-litert")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a run was asked for, resolved: ``config.toml``."""

    target: str
    data: str
    budget: str = ""
    """As given; empty: the latency of the space's usual network."""
    space: str = "mobile"
    strategy: str = "proxyless"
    precision: str = "fp32"
    resolution: str = ""
    """Height and width of the images in pixels, or several; empty: as the data set is."""
    width_mult: str = ""
    """Times all widths of the space, or several; empty: 1, or what `setup.auto_width` finds
    for a budget in ms."""
    max_drop: float = 0.02
    """Accuracy, as a share of 1, that int8 may lose on validation images before more is done."""
    tune_epochs: int = 2
    """Of fine-tuning where int8 loses more; 0: layers are left in float32 at once."""
    pixels: bool = False
    """Whether the files take pixels from 0 to 255 and normalise them themselves."""
    effort: str = "quick"
    seed: int = 0
    flip: bool = True
    """Whether images may be mirrored in training."""
    share_weights: bool = True
    """Whether candidates of a block share weights by slicing (`hwnas.nn.supernet`)."""
    objective: str = ""
    """How latency enters the search; empty: the strategy's own way."""
    estimator: str = "full"
    """Of the gradient of strategy ``proxyless``: ``full`` or ``two``."""
    latency_model: str = ""
    """File or name of the latency model to use; empty: the device's own."""
    raw: bool = False
    """Whether budgets are judged on this run's own clock, not on the calibrated milliseconds."""
    ray: str = ""
    """Address of a Ray cluster that trains the networks of strategy ``eas``; empty: processes here.
    It changes no result."""
    shrink: bool = True
    """Whether strategy ``eas`` may make a start network smaller that is over the budget."""
    threads: int = 1
    """Threads of the supernet's training; part of what makes a result repeatable."""


class Event(msgspec.Struct, frozen=True):
    """One line of ``measurements.jsonl``."""

    stage: str
    digest: str
    """Of the architecture that was measured."""
    measurement: Measurement


class StageTime(msgspec.Struct, frozen=True):
    stage: str
    seconds: float


class RunFolder:
    """The folder of one run; no other process can open it until it is closed."""

    def __init__(self, path: Path, config: Config, lock: ExitStack) -> None:
        self.path = path
        self.config = config
        self.lock = lock

    @classmethod
    def open(cls, path: Path, config: Config, resume: bool) -> Self:
        """Make a run folder, or open the one that exists, and lock it.

        Raises `UsageError` if it holds another run or is in use, `HwnasError` if it can't be
        written.
        """
        if (path / "config.toml").exists() and not resume:
            raise UsageError(
                f"{path}: a run is there already; add --resume to go on with it, or choose another "
                "--out"
            )
        with ExitStack() as lock:
            lock.enter_context(lock_folder(path))
            if not (path / "config.toml").exists():
                write_json(path / "manifest.json", manifest(config))
                write_atomic(path / "config.toml", msgspec.toml.encode(config))
            return cls(path, config, lock.pop_all())

    def close(self) -> None:
        self.lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def measurements(self) -> Path:
        return self.path / "measurements.jsonl"

    def measured(self, stage: str) -> dict[str, Measurement]:
        """Return the journaled measurements of a stage, by the architectures' digests."""
        events = read_lines(self.measurements, Event)
        return {event.digest: event.measurement for event in events if event.stage == stage}

    def journal(self, stage: str, digest: str, measurement: Measurement) -> None:
        append_line(self.measurements, Event(stage, digest, measurement))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent in the body to the stage's, also when an error ends it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = StageTime(name, time.perf_counter() - start)
            append_line(self.path / "stages.jsonl", spent)

    def stages_s(self) -> dict[str, float]:
        times: dict[str, float] = {}
        for line in read_lines(self.path / "stages.jsonl", StageTime):
            times[line.stage] = times.get(line.stage, 0.0) + line.seconds
        return times


def read_config(folder: Path) -> Config:
    """Read what a run was asked for."""
    path = folder / "config.toml"
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(path), str(error)) from None
    except OSError:
        raise UsageError(f"{folder}: there is no run to resume (no config.toml)") from None


def manifest(config: Config) -> dict[str, object]:
    """Return versions, seed and command: what it takes to repeat the run."""
    return {
        "hwnas": __version__,
        "created": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "command": command_line(config),
        "seed": config.seed,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(),
    }


def versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def command_line(config: Config) -> str:
    """Return the command that repeats a run, its defaults left out."""
    import shlex

    words = ["hwnas", "specialize", "--target", config.target]
    if config.budget:
        words += ["--budget", config.budget]
    words += ["--data", config.data]
    defaults = Config(target=config.target, data=config.data)
    options = (
        "space strategy ray precision resolution width-mult max-drop tune-epochs effort objective "
        "estimator"
    )
    for name in (*options.split(), "seed", "threads"):
        value = getattr(config, name.replace("-", "_"))
        if value != getattr(defaults, name.replace("-", "_")):
            words += [f"--{name}", f"{100 * value:g}%" if name == "max-drop" else str(value)]
    words += [] if config.flip else ["--no-flip"]
    words += [] if config.shrink else ["--no-shrink"]
    words += ["--raw"] if config.raw else []
    words += ["--pixels"] if config.pixels else []
    words += [] if config.share_weights else ["--separate-weights"]
    return shlex.join(words)


LOCK_WAIT_S = 5.0


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Make ``folder`` and keep other processes out of it for the body.

    The system releases the lock when the process ends, however it ends. Raises `UsageError` if
    another process has it, `HwnasError` if the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise HwnasError(f"{folder}: cannot be written ({error.strerror or error})") from None
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise UsageError(f"{folder}: another process is working in it") from None
            time.sleep(0.1)
