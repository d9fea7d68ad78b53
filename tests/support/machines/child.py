"""A child process for `JsonWorker` that answers, refuses, aborts or sleeps on request."""

from __future__ import annotations

import os
import time

from hwnas.processes import serve_json_lines


def handle(request: str) -> str:
    if request == "abort":
        os.abort()
    if request == "sleep":
        time.sleep(60)
    if request == "refuse":
        raise ValueError("no")
    if request.isdigit():
        raise OSError(int(request), os.strerror(int(request)))
    print("text that belongs on no channel")
    return f"{request} by {os.getpid()}"


if __name__ == "__main__":
    serve_json_lines(handle, str)
