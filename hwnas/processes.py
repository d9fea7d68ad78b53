"""Processes: available cores, child processes that answer in JSON, the end of children, Ray
clusters."""

from __future__ import annotations

import atexit
import logging
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import psutil

from hwnas.errors import NO_SPACE, DeviceError, HwnasError, InvalidFile, UsageError, last_line

T = TypeVar("T")
CHILD_TIMEOUT_S = 180.0
CLUSTER_TIMEOUT_S = 5.0
"""Time in which a cluster's address must accept a connection."""


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores(cgroup: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """Return the physical cores that this process may use: at most its processors and its quota."""
    count = min(psutil.cpu_count(logical=False) or cores(), cores())
    try:
        quota, period = cgroup.read_text().split()
    except (OSError, ValueError):
        return count
    return count if quota == "max" else max(1, min(count, int(quota) // int(period)))


def local_ranks() -> int:
    """Return the number of processes that ``torchrun`` started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def own_peak_bytes() -> int:
    """Return the largest resident memory of this process so far.

    It is ``VmHWM`` of /proc if possible: ``ru_maxrss`` includes the parent's at the fork.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def watch_parent(parent: int) -> None:
    """End this process when its parent ends, even if the parent is killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


def kill_children() -> None:
    """Kill the running child processes of this one, and their children."""
    try:
        children = psutil.Process().children(recursive=True)
    except psutil.Error:
        return
    for child in children:
        with suppress(psutil.Error):
            child.kill()


def run_json_child(
    module: str,
    request: object,
    result_type: type[T],
    *,
    name: str = "",
    timeout_s: float = CHILD_TIMEOUT_S,
) -> T:
    """Run ``python -m module``, which calls `serve_json`, on a request; return its result.

    A runtime that crashes ends only the child. ``name`` is the child's name in messages. Raises
    `InvalidFile` for a model file that the child reports as the cause, `OSError` if the child found
    the disk full, `DeviceError` for anything else.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", module],
            input=msgspec.json.encode(request),
            capture_output=True,
            env=_child_environment(),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{name or module}: no result within {timeout_s:.0f} s") from None
    try:
        answer = msgspec.json.decode(child.stdout, type=_Answer)
    except msgspec.DecodeError:
        raise DeviceError(
            f"{name or module} {_describe_end(child.returncode)} without a result; last line of "
            f"its stderr: {last_line(child.stderr)}"
        ) from None
    return answer.value(result_type)


class JsonWorker:
    """A child as in `run_json_child` that serves many requests, so that it imports modules only
    once.

    It runs ``python -m module``, which calls `serve_json_lines`, and ends with this process.
    """

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name
        self._child: subprocess.Popen[bytes] | None = None

    def call(self, request: object, result_type: type[T], timeout_s: float = CHILD_TIMEOUT_S) -> T:
        """Return the result of a request. Raises as `run_json_child`; the next call then starts a
        new child."""
        if self._child is not None and self._child.poll() is not None:
            self.close()  # it was killed since the last call
        child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        with suppress(BrokenPipeError):
            child.stdin.write(msgspec.json.encode(request) + b"\n")
            child.stdin.flush()
        if not select.select([child.stdout], [], [], timeout_s)[0]:
            self.close()
            raise DeviceError(f"{self.name}: no result within {timeout_s:.0f} s")
        try:
            answer = msgspec.json.decode(child.stdout.readline(), type=_Answer)
        except msgspec.DecodeError:
            end = _describe_end(child.wait())
            self.close()
            raise DeviceError(f"{self.name} {end}") from None
        return answer.value(result_type)

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
        self._child = None

    def _start(self) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_child_environment(),
        )
        self._child = child
        atexit.register(self.close)
        return child


def serve_json_lines(handle: Callable[[Any], object], request_type: Any = Any) -> None:
    """Serve a `JsonWorker` as its child: answer each line of stdin as `serve_json` does."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin.buffer:
        channel.write(msgspec.json.encode(_answer(handle, line, request_type)) + b"\n")
        channel.flush()


def serve_json(handle: Callable[[Any], object], request_type: Any = Any) -> None:
    """Serve `run_json_child` as its child: decode the request on stdin and write the result of
    ``handle``.

    An exception with a ``path`` and a reason ``why`` names that model file as the cause.
    """
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a runtime prints must not get in between
    with channel:
        channel.write(msgspec.json.encode(_answer(handle, sys.stdin.buffer.read(), request_type)))


class _Answer(msgspec.Struct):
    result: Any
    error: str | None = None
    file: str = ""
    errno: int | None = None
    """Error number of a full disk, which is not the fault of the model file."""

    def value(self, result_type: type[T]) -> T:
        if self.error is None:
            return msgspec.convert(self.result, result_type)
        if self.errno is not None:
            raise OSError(self.errno, os.strerror(self.errno))
        raise InvalidFile(self.file, self.error) if self.file else DeviceError(self.error)


def _answer(handle: Callable[[Any], object], request: bytes, request_type: Any) -> _Answer:
    try:
        return _Answer(handle(msgspec.json.decode(request, type=request_type)))
    except (RuntimeError, OSError, ValueError, MemoryError, HwnasError) as error:
        reason = getattr(error, "why", None) or str(error) or type(error).__name__
        number = getattr(error, "errno", None)
        return _Answer(
            None,
            str(reason),
            getattr(error, "path", ""),
            number if number in NO_SPACE else None,
        )


def _child_environment() -> dict[str, str]:
    folder = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


def _describe_end(status: int) -> str:
    if status < 0:
        return f"crashed ({signal.Signals(-status).name})"
    return f"ended with status {status}"


def connect_cluster(address: str, where: str) -> Any:
    """Return the module of Ray, connected to a cluster. Raises as `check_cluster`."""
    ray = check_cluster(address, where)
    try:
        ray.init(
            address=address,
            log_to_driver=False,
            logging_level=logging.ERROR,
            ignore_reinit_error=True,
        )
    except Exception as error:  # Ray raises many types, all of which mean this
        why = last_line(str(error), type(error).__name__)
        raise DeviceError(f"no Ray cluster answers at {address}: {why}") from None
    return ray


def check_cluster(address: str, where: str) -> Any:
    """Return the module of Ray; ``where`` names the setting that has the address.

    Raises `UsageError` if Ray is not installed, and `DeviceError` if nothing listens at
    ``address``, at once: Ray itself would try for minutes.
    """
    try:
        ray = import_module("ray")
    except ImportError:
        raise UsageError(f'{where} needs Ray: pip install "hwnas[ray]"') from None
    if address == "auto":
        return ray
    try:
        parts = urlsplit(address if "://" in address else f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise UsageError(f"{where} = {address}: expected HOST:PORT, ray://HOST:PORT or auto")
    try:
        socket.create_connection((host, port), CLUSTER_TIMEOUT_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise DeviceError(f"no Ray cluster answers at {address}: {why}") from None
    return ray
