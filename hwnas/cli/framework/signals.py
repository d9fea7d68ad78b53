"""Signals that end a command: the same one line and clean end for each, however often it comes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 2.0
"""Time after the first signal in which further signals are ignored; then they end the process at
once."""


class Stopped(KeyboardInterrupt):
    """Raised in the main thread by the first signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Handler:
    def __init__(self) -> None:
        self.first_s: float | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.first_s is None:
            self.first_s = time.monotonic()
            raise Stopped(number)
        if time.monotonic() - self.first_s > GRACE_S:
            from hwnas.processes import kill_children

            kill_children()
            os._exit(128 + number)


@contextmanager
def stopping_signals() -> Generator[None]:
    """Let `SIGNALS` raise `Stopped` in the body, once. A signal that is ignored stays ignored.

    After a signal the process is about to end, and further ones stay ignored.
    """
    handler = _Handler()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            stopped = handler.first_s is not None
            signal.signal(number, signal.SIG_IGN if stopped else before[number])


def signal_number(error: KeyboardInterrupt) -> int:
    return error.number if isinstance(error, Stopped) else signal.SIGINT


def open_standard_streams() -> None:
    """Open what the caller has closed of stdin, stdout and stderr on the null device.

    Otherwise the next file that is opened takes its place, and messages are written into it. Names
    that the encoding of a stream lacks are written as escapes.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(descriptor, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
