"""Processes that start quickly: forked from a server that has imported what most tests need."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    [
        "torch._dynamo",  # by far the longest import, of the first step of an optimizer
        "hwnas.specialize.distributed.ranks",
        "hwnas.specialize.steps.train_network",
    ]
)


def fork(
    target: Callable[..., object], *arguments: Any, context: BaseContext = CONTEXT
) -> BaseProcess:
    """Start ``target(*arguments)`` in a process with the environment variables of this one."""
    process = context.Process(target=_call, args=(dict(os.environ), target, arguments))  # type: ignore[attr-defined]
    process.start()
    return process


def _call(
    environment: dict[str, str], target: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """Call ``target``; the server has the environment variables of its own start."""
    os.environ.clear()
    os.environ.update(environment)
    target(*arguments)
