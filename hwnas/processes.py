"""Processes that others start: ends with its parent, and how many are sensible."""

from __future__ import annotations

import os
import threading
import time


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def watch_parent(parent: int) -> None:
    """End this process when the one that started it is gone (it may have been killed)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()
