"""Two processes as ``torchrun`` starts them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

from hwnas.training.distributed import process_group
from tests.support.machines.forked import CONTEXT, fork

TIMEOUT_S = 300.0


def run_on_two_ranks(
    on_rank: Callable[[int, int, Path], None],
    folder: Path,
    *,
    meanwhile: Callable[[], object] = lambda: None,
    first: BaseContext = CONTEXT,
) -> list[int | None]:
    """Call ``on_rank(number, port, folder)`` in two processes; return their exit codes.

    Each sets its environment first (`rank_environment`). ``meanwhile`` is called in this process;
    ``first`` starts rank 0.
    """
    port = free_port()
    both = [
        fork(on_rank, number, port, folder, context=context)
        for number, context in enumerate((first, CONTEXT))
    ]
    meanwhile()
    for process in both:
        process.join(TIMEOUT_S)
        process.kill()
    return [process.exitcode for process in both]


def rank_environment(number: int, port: int) -> dict[str, str]:
    """Return what ``torchrun`` tells its processes."""
    return {
        "RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip


def join_and_leave(number: int, port: int, folder: Path) -> None:
    """Step an optimizer in a process group, and leave it with all threads."""
    os.environ.update(rank_environment(number, port))
    with process_group():
        torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1).step()
        assert threads_of_gloo()
    assert not threads_of_gloo()  # one that frees a tensor while Python ends aborts the process


def threads_of_gloo() -> list[str]:
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if "gloo" in name]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
