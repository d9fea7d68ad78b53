"""What a run says while it works: rich on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

PLAIN_EVERY_S = 10.0
"""Without a terminal a step's progress is a line at most this often."""

Update = Callable[[float, float, str], None]
"""Called with done, total and a remark."""


class Console(Protocol):
    """Where a run's words go."""

    def say(self, text: str) -> None: ...

    def step(self, title: str) -> AbstractContextManager[Update]:
        """Show the progress of one step, with the time left."""
        ...


class QuietConsole:
    """Says nothing but what must be known."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        yield lambda done, total, remark: None


class PlainConsole(QuietConsole):
    """Lines for logs and pipes."""

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        self.say(title)
        start = last = time.monotonic()

        def update(done: float, total: float, remark: str) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= PLAIN_EVERY_S and done > 0:
                last = now
                left_s = (now - start) * (total - done) / done
                self.say(f"  {done / total:.0%}, about {left_s:.0f} s left  {remark}")

        yield update
        self.say(f"  done in {time.monotonic() - start:.1f} s")


class RichConsole:
    """A terminal: one live line for the present step."""

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
            TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}"),
        )  # fmt: skip
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
