"""Two processes as ``torchrun`` starts them."""

from __future__ import annotations

import multiprocessing
import socket
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 300.0


def run_on_two_ranks(on_rank: Callable[[int, int, Path], None], folder: Path) -> list[int | None]:
    """Call ``on_rank(number, port, folder)`` in two processes; return their exit codes.

    Each sets its environment first (`rank_environment`).
    """
    context, port = multiprocessing.get_context("spawn"), free_port()
    both = [context.Process(target=on_rank, args=(number, port, folder)) for number in range(2)]
    for process in both:
        process.start()
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


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
