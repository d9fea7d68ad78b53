"""Child processes: what they answer, and how the parent learns of their end."""

from __future__ import annotations

from errno import EACCES, ENOSPC

import psutil
import pytest

from hwnas.errors import DeviceError
from hwnas.processes import JsonWorker


def test_a_worker_answers_one_request_after_another_until_it_crashes() -> None:
    worker = JsonWorker("tests.support.machines.child", "the child")
    try:
        first, second = worker.call("a", str), worker.call("b", str)
        assert first.partition(" by ")[2] == second.partition(" by ")[2]
        with pytest.raises(DeviceError, match=r"^no$"):
            worker.call("refuse", str)
        assert worker.call("c", str).partition(" by ")[2] == first.partition(" by ")[2]
        with pytest.raises(DeviceError, match=r"^the child crashed \(SIGABRT\)$"):
            worker.call("abort", str)
        assert worker.call("d", str).partition(" by ")[2] != first.partition(" by ")[2]
        with pytest.raises(DeviceError, match="the child: no result within 0 s"):
            worker.call("sleep", str, timeout_s=0.1)
    finally:
        worker.close()


def test_a_worker_that_was_killed_between_two_calls_is_started_anew() -> None:
    worker = JsonWorker("tests.support.machines.child", "the child")
    try:
        killed = worker.call("a", str).partition(" by ")[2]
        # this process alone: pytest has other children, which later tests need
        process = psutil.Process(int(killed))
        process.kill()
        process.wait(timeout=10)
        assert worker.call("b", str).partition(" by ")[2] != killed
    finally:
        worker.close()


def test_a_full_disk_of_the_child_is_an_error_of_the_disk_and_no_other_error_is() -> None:
    worker = JsonWorker("tests.support.machines.child", "the child")
    try:
        with pytest.raises(OSError, match="No space left on device") as full:
            worker.call(str(ENOSPC), str)
        assert full.value.errno == ENOSPC
        with pytest.raises(DeviceError, match="Permission denied"):
            worker.call(str(EACCES), str)
    finally:
        worker.close()
