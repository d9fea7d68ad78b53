"""Messages and progress of a run on stderr: a live picture on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType

PLAIN_EVERY_S = 10.0
"""Least time between two progress lines of a step, without a terminal."""

Update = Callable[[float, float, str], None]
"""Called with the amount done, the total and a remark."""


class Standing(NamedTuple):
    """The state of a network of a run so far, as text."""

    network: str
    latency: str
    score: str


class Console(Protocol):
    """Where a run prints its messages and progress."""

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None:
        """Print a warning, which ``--quiet`` and ``--json`` do not hide."""
        ...

    def step(self, title: str) -> AbstractContextManager[Update]:
        """Show the progress of one step, with the time left."""
        ...

    def standings(self, title: str, rows: Sequence[Standing]) -> None:
        """Show the best networks so far, until others take their place."""
        ...


class QuietConsole:
    """Prints warnings only: the command prints its result."""

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        yield lambda done, total, remark: None

    def standings(self, title: str, rows: Sequence[Standing]) -> None:
        pass


class PlainConsole(QuietConsole):
    """Prints messages and progress as lines, for logs and pipes; no standings."""

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        self.say(title)
        start = last = time.monotonic()
        first: float | None = None
        """Amount that an earlier process had done, as of the first report."""

        def update(done: float, total: float, remark: str) -> None:
            nonlocal last, first
            now = time.monotonic()
            first = done if first is None else first
            if now - last >= PLAIN_EVERY_S and done > first:
                last = now
                left_s = (now - start) * (total - done) / (done - first)
                left = f"{left_s:.0f} s" if left_s < 120 else f"{left_s / 60:.0f} min"
                self.say(f"  {done / total:.0%}, about {left} left  {remark}")

        yield update
        self.say(f"  done in {time.monotonic() - start:.1f} s")


class RichConsole:
    """Shows the current step and the best networks so far below the messages, on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console as Rich

        self.rich = Rich(stderr=True, highlight=False)
        self._standings: list[RenderableType] = []

    def say(self, text: str) -> None:
        self.rich.print(text, markup=False)

    def warn(self, text: str) -> None:
        self.say(text)

    def standings(self, title: str, rows: Sequence[Standing]) -> None:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("network", "latency", "score"):
            table.add_column(column, no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row))
        self._standings = [table] if rows else []

    @contextmanager
    def step(self, title: str) -> Iterator[Update]:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self.rich,
        )
        start, task = time.monotonic(), progress.add_task(title, total=None)
        remark = Text(style="dim", no_wrap=True, overflow="ellipsis")

        def update(done: float, total: float, text: str) -> None:
            progress.update(task, completed=done, total=total)
            remark.plain = text

        def picture() -> RenderableType:
            return Group(progress.get_renderable(), remark, *self._standings)

        with Live(get_renderable=picture, console=self.rich, transient=True):
            yield update
        self.say(f"{title}: {time.monotonic() - start:.1f} s")


def console(quiet: bool) -> Console:
    """Return the console that fits stderr."""
    if quiet:
        return QuietConsole()
    return RichConsole() if sys.stderr.isatty() else PlainConsole()
