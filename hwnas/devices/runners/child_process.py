"""A fresh process on this machine that answers one question: JSON in, JSON out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hwnas
from hwnas.devices.worker.model import BadModel
from hwnas.errors import DeviceError, InvalidFile

PATIENCE_S = 180.0
"""A child that says nothing for so long hangs."""


def ask_child(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run ``module`` (see `answer`) and return what it says.

    Raises `InvalidFile` for a model file that is to blame, `DeviceError` for all else.
    """
    folder = str(Path(hwnas.__file__).parents[1])
    path = os.pathsep.join(filter(None, (folder, os.environ.get("PYTHONPATH"))))
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", module],
            input=json.dumps(request).encode(),
            capture_output=True,
            env={**os.environ, "PYTHONPATH": path},
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{module}: no answer within {PATIENCE_S:.0f} s") from None
    try:
        said = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise DeviceError(
            f"{module}: ended with status {done.returncode} and no answer; last line of its "
            f"stderr: {last[0]}"
        ) from None
    if "file" in said:
        raise InvalidFile(said["file"], said["error"])
    if "error" in said:
        raise DeviceError(said["error"])
    return said


def answer(question: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Be the child: read the request, write what ``question`` says of it."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a runtime prints must not get between
    try:
        said = question(json.load(sys.stdin))
    except BadModel as error:
        said = {"error": error.why, "file": error.path}
    except (RuntimeError, OSError, MemoryError) as error:
        said = {"error": str(error) or type(error).__name__}
    json.dump(said, channel)
    channel.close()
