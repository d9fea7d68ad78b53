"""Messages and progress of a run on stderr: rich on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

PLAIN_EVERY_S = 10.0
"""Least time between two progress lines of a step, without a terminal."""

Update = Callable[[float, float, str], None]
"""Called with the amount done, the total and a remark."""


class Console(Protocol):
    """Where a run prints its messages and progress."""

    def say(self, text: str) -> None: ...

    def step(self, title: str) -> AbstractContextManager[Update]:
        """Show the progress of one step, with the time left."""
        ...


class QuietConsole:
    """Prints messages, but no progress."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        yield lambda done, total, remark: None


class PlainConsole(QuietConsole):
    """Prints progress as lines, for logs and pipes."""

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        self.say(title)
        start = last = time.monotonic()
        first: float | None = None
        """What was done before this process, by its first report."""

        def update(done: float, total: float, remark: str) -> None:
            nonlocal last, first
            now = time.monotonic()
            first = done if first is None else first
            if now - last >= PLAIN_EVERY_S and done > first:
                last = now
                left_s = (now - start) * (total - done) / (done - first)
                self.say(f"  {done / total:.0%}, about {left_s:.0f} s left  {remark}")

        yield update
        self.say(f"  done in {time.monotonic() - start:.1f} s")


class RichConsole:
    """Shows the progress of the current step as a live line on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console as Rich

        self.rich = Rich(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        self.rich.print(text, markup=False)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
        )
        start = time.monotonic()
        with Progress(*columns, console=self.rich, transient=True) as progress:
            task = progress.add_task(title, total=None, remark="")
            yield lambda done, total, remark: progress.update(
                task, completed=done, total=total, remark=remark
            )
        self.say(f"{title}: {time.monotonic() - start:.1f} s")


def console(quiet: bool) -> Console:
    """Return the console that fits stderr."""
    if quiet:
        return QuietConsole()
    return RichConsole() if sys.stderr.isatty() else PlainConsole()
