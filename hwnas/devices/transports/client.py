"""One client process (adb, ssh, sh, a worker), its output read line by line within limits."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from math import inf
from queue import Empty, Queue
from threading import Thread
from typing import IO, Self

from hwnas.errors import DeviceError, last_line

MAX_LINE_BYTES = 2**24
MAX_ERROR_BYTES = 2**16
"""Last bytes of stderr that are stored."""


class Client:
    """Runs ``argv`` with ``stdin``. A context manager: leaving it ends the process."""

    def __init__(
        self,
        argv: list[str],
        stdin: bytes,
        limit_s: float = inf,
        silence_s: float | None = None,
        max_bytes: int = 2**26,
    ) -> None:
        self._limit_s, self._silence_s, self._max_bytes = limit_s, silence_s, max_bytes
        self._end = time.monotonic() + limit_s
        self._err = b""
        self._lines: Queue[bytes] = Queue(maxsize=4096)
        try:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except FileNotFoundError:
            raise DeviceError(f"{argv[0]} is not installed here") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._closing = False
        self._threads = [
            Thread(target=_feed, args=(self._process.stdin, stdin), daemon=True),
            Thread(target=self._pump, args=(self._process.stdout,), daemon=True),
            Thread(target=self._collect_errors, args=(self._process.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def err(self) -> bytes:
        """The end of stderr; complete after `lines` has ended."""
        return self._err

    @property
    def last_error_line(self) -> str:
        """The last line of stderr, or ``nothing``."""
        return last_line(self._err)

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status (negative: the signal); ``None`` for a process that runs on."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def err_until(self, mark: bytes) -> bytes:
        """Return stderr up to a mark that the end of the command writes; waits for it briefly."""
        end = time.monotonic() + 5.0
        while mark not in self._err and time.monotonic() < end:
            time.sleep(0.005)
        return self._err.partition(mark)[0]

    def lines(self, device: str, shown: str) -> Iterator[bytes]:
        """Yield lines of stdout; raises `DeviceError` beyond a limit."""
        total = 0
        while line := self._next(device, shown):
            total += len(line)
            if total > self._max_bytes:
                raise DeviceError(f"{device}: {shown} printed more than {self._max_bytes:,} bytes")
            yield line
        self._threads[2].join(timeout=0.3)  # a persistent connection keeps it open

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._process.kill()
        self._process.wait()
        while self._threads[1].is_alive():
            try:
                self._lines.get(timeout=0.05)  # makes room for a pump that waits, so that it ends
            except Empty:
                self._threads[1].join(timeout=0.05)
                break  # a grandchild holds the pipe: the thread is a daemon

    def _next(self, device: str, shown: str) -> bytes:
        left_s = self._end - time.monotonic()
        silent = self._silence_s is not None and self._silence_s < left_s
        try:
            return self._lines.get(timeout=max(self._silence_s if silent else left_s, 0.01))  # type: ignore[type-var]
        except Empty:
            pass
        if silent:
            raise DeviceError(
                f"{device}: {shown} was silent for {self._silence_s:.0f} s; last line of its "
                f"stderr: {self.last_error_line}"
            )
        raise DeviceError(f"{device}: {shown} did not end within {self._limit_s:.0f} s")

    def _pump(self, pipe: IO[bytes]) -> None:
        with pipe:
            while not self._closing and (line := pipe.readline(MAX_LINE_BYTES)):
                self._lines.put(line)
        self._lines.put(b"")

    def _collect_errors(self, pipe: IO[bytes]) -> None:
        with pipe:
            while part := os.read(pipe.fileno(), 2**14):
                self._err = (self._err + part)[-MAX_ERROR_BYTES:]


def _feed(pipe: IO[bytes], data: bytes) -> None:
    try:
        with pipe:
            pipe.write(data)
    except (BrokenPipeError, ValueError, OSError):
        pass  # it ended first; its exit status tells why
