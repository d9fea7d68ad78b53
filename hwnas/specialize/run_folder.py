"""The folder of a run: specification, manifest, lock, journals, times of the stages."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from hwnas import __version__
from hwnas.console import QuietConsole
from hwnas.errors import UsageError, WriteError
from hwnas.files import (
    append_line,
    lock_folder,
    read_json,
    read_lines,
    write_atomic,
    write_json,
)
from hwnas.measurement.measurement import Measurement, local_time
from hwnas.recovery import is_run, recover
from hwnas.specialize.command_line import check_resumed, command_line
from hwnas.specialize.spec import RunSpec, Stated, encode_spec, has_whole_spec, read_spec

QUIET = QuietConsole()
FORMAT = 1
"""Version of the format of run folders; a run of another format cannot be resumed."""
CLEANED = "cleaned.json"
"""Marker file of a folder whose checkpoints were deleted
(`hwnas.specialize.housekeeping.cleaning`)."""
PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "ai-edge-litert")


SCENARIOS = "scenarios"
"""Folder of the runs for each target and budget, in that of the whole run."""


class Event(msgspec.Struct, frozen=True):
    """One line of ``measurements.jsonl``."""

    stage: str
    digest: str
    """Digest of the measured architecture."""
    measurement: Measurement


class StageTime(msgspec.Struct, frozen=True):
    """One line of ``stages.jsonl``."""

    stage: str
    seconds: float
    cpu_s: float = 0.0
    """CPU time of this process and of its finished child processes, over all cores."""


class Clocks(NamedTuple):
    """Wall-clock time and CPU time."""

    seconds: float
    cpu_s: float

    def __add__(self, other: Clocks) -> Clocks:  # type: ignore[override]
        return Clocks(self.seconds + other.seconds, self.cpu_s + other.cpu_s)

    def __sub__(self, other: Clocks) -> Clocks:
        return Clocks(self.seconds - other.seconds, self.cpu_s - other.cpu_s)


def clocks() -> Clocks:
    """Return the present times; the CPU time is that of this process and its finished children."""
    times = os.times()
    cpu_s = times.user + times.system + times.children_user + times.children_system
    return Clocks(time.perf_counter(), cpu_s)


class RunFolder:
    """The folder of one run; no other process can open it until it is closed."""

    def __init__(self, path: Path, spec: RunSpec, lock: ExitStack) -> None:
        self.path = path
        self.spec = spec
        self.lock = lock
        self._inner = Clocks(0.0, 0.0)
        """Time of the stages that have ended within the current one."""

    @classmethod
    def open(
        cls,
        path: Path,
        spec: RunSpec,
        resume: bool,
        say: Callable[[str], None] = QUIET.say,
    ) -> Self:
        """Make a run folder, or open the one that exists, and lock it.

        Damaged files are repaired (`hwnas.recovery`), and ``say`` names them. Raises `UsageError`
        if the folder holds another run, is in use or has another format, `WriteError` if it cannot
        be written.
        """
        if is_run(path) and not resume:
            raise UsageError(
                f"{path}: there is a run already; add --resume to continue it, or choose another "
                "--out"
            )
        if (path / "job.json").exists() and not is_run(path):
            raise UsageError(f"{path}: is the folder of a training; choose another --out")
        if (path / CLEANED).exists():
            raise UsageError(
                f"{path}: cleaned, it can't be continued; `hwnas report {path}` renders its report"
            )
        with ExitStack() as lock:
            lock.enter_context(lock_folder(path))
            begun = spec
            if resume or is_run(path):
                begun = _begun_spec(path, spec, say)
                recover(path, say)
                _check_version(path, say)
            if not (path / "manifest.json").exists():
                write_json(path / "manifest.json", manifest(begun))
            if not has_whole_spec(path):
                write_atomic(path / "config.toml", encode_spec(begun))
            return cls(path, spec, lock.pop_all())

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

    @property
    def others(self) -> list[Path]:
        """Folders of the run's other targets and budgets, which share the searched weights."""
        if self.path.parent.name != SCENARIOS:
            return []
        return sorted(path for path in self.path.parent.iterdir() if path != self.path)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time of the body to that of the stage, also when an error ends it.

        The time of a stage within another stage counts only for the inner one.
        """
        start, before = clocks(), self._inner
        self._inner = Clocks(0.0, 0.0)
        try:
            yield
        except BaseException:
            with suppress(WriteError):  # the body's own error says more
                self._add_time(name, start, before)
            raise
        self._add_time(name, start, before)

    def _add_time(self, stage: str, start: Clocks, before: Clocks) -> None:
        passed = clocks() - start
        own, self._inner = passed - self._inner, before + passed
        append_line(self.path / "stages.jsonl", StageTime(stage, own.seconds, own.cpu_s))

    def stages(self) -> dict[str, Clocks]:
        """Return the time of each stage, in the order in which they first ended."""
        times: dict[str, Clocks] = {}
        for line in read_lines(self.path / "stages.jsonl", StageTime):
            spent = Clocks(line.seconds, line.cpu_s)
            times[line.stage] = times.get(line.stage, Clocks(0.0, 0.0)) + spent
        return times


def default_folder(targets: Sequence[str], resume: bool) -> Path:
    """Return ``runs/TARGET``, numbered until it is free, or the newest of them to resume."""
    stem = "+".join(Path(name).stem for name in targets)
    number, folder = 1, Path("runs") / stem
    newest: Path | None = None
    while is_run(folder):
        newest = folder
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return (newest or folder) if resume else folder


def _begun_spec(path: Path, spec: RunSpec, say: Callable[[str], None]) -> RunSpec:
    """Return the specification with which the run in a folder was begun, or ``spec`` if none was.

    Raises `UsageError` if the run can't be continued with ``spec``; ``say`` names a ``config.toml``
    that was damaged or edited.
    """
    config, manifest = path / "config.toml", path / "manifest.json"
    if not config.exists() and not manifest.exists():
        return spec
    begun = read_spec(path)
    check_resumed(path, begun, spec)
    if not config.exists():
        say(f"{config}: missing; the specification in {manifest.name} is used")
    elif not has_whole_spec(path) and _is_stated(manifest):
        say(f"{config}: damaged or edited; the specification in {manifest.name} is used")
    return begun


def _is_stated(manifest: Path) -> bool:
    with suppress(UsageError):
        return read_json(manifest, Stated).spec is not None
    return False


class _Maker(msgspec.Struct, frozen=True):
    """The fields of ``manifest.json`` on the program that made a run folder."""

    hwnas: str
    format: int = FORMAT


def _check_version(path: Path, say: Callable[[str], None]) -> None:
    """Raise `UsageError` for a folder of another format; ``say`` names another version."""
    file = path / "manifest.json"
    if not file.exists():
        return
    maker = read_json(file, _Maker)
    if maker.format != FORMAT:
        raise UsageError(
            f"{path}: a run of hwnas {maker.hwnas}, which hwnas {__version__} can't continue; use "
            f"that version, or start again with another --out"
        )
    if maker.hwnas != __version__:
        say(f"{path}: begun with hwnas {maker.hwnas}, continued with {__version__}")


def manifest(spec: RunSpec) -> dict[str, object]:
    """Return the versions, the seed and the command that repeat the run."""
    return {
        "hwnas": __version__,
        "format": FORMAT,
        "created": local_time(),
        "command": command_line(spec),
        "spec": spec,
        "seed": spec.seed,
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": versions(),
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that a result depends on."""
    installed: dict[str, str] = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            installed[name] = "not installed"
    return installed
