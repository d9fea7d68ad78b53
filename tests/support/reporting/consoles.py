"""Consoles that record what a run prints."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hwnas.console import QuietConsole, Update


class RecordingConsole(QuietConsole):
    """Keeps the printed lines and the progress of all steps."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.progress: list[tuple[float, float, str]] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.say(text)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        yield lambda done, total, remark: self.progress.append((done, total, remark))


class SilentConsole(QuietConsole):
    """Fails if anything is printed."""

    def say(self, text: str) -> None:
        raise AssertionError(f"expected no message, got: {text}")

    def warn(self, text: str) -> None:
        self.say(text)
