"""Measures model files in a fresh process on the device itself.

Needs the standard library, numpy and the runtime only, so that it can go to another host (with its
parts, see `hwnas.devices.worker.archive`). Reads one JSON request from stdin::

    {"runtime": "onnxruntime" | "litert" | "torch", "threads": 1, "affinity": [3] | null,
     "gpu": {"provider", "number", "precision", "engines"} | null, "seed": 0,
     "models": [{"name": "a", "path": "a.onnx"}, ...], "reference": "reference.onnx",
     "spec": {"warmup_runs", "warmup_s", "runs", "min_rounds", "max_rounds", "ci", "max_s"}}

(a model may name another ``"runtime"`` than the request's, and a ``"batch"`` where it takes any)
and writes JSON lines to stdout:
``{"progress": [visits done, visits in sight]}`` now and then, at the end
``{"result": {"models": [...], "environment": {...}}}``, or ``{"error": "..."}`` (with ``"file"``
where a model file is to blame) and exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from hwnas.devices.worker.conditions import allowed_cores, changes, conditions, machine
from hwnas.devices.worker.model import BadModel
from hwnas.devices.worker.rounds import Subject, take_rounds, warm_up


def measure(request: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Take the rounds that a request asks for; returns what goes out as ``result``."""
    affinity = request.get("affinity")
    if affinity:
        os.sched_setaffinity(0, affinity)
    before = conditions()
    runtime, seed, gpu = request["runtime"], request["seed"], request.get("gpu")
    watch = _gpu_watch(gpu)
    reference = Subject("reference", request["reference"], runtime, request)
    subjects: list[Subject] = []
    for model in request["models"]:
        own, batch = model.get("runtime") or runtime, model.get("batch") or 1
        subjects.append(Subject(model["name"], model["path"], own, request, batch))
        progress(0, len(request["models"]) * request["spec"]["min_rounds"])
    warm_up([reference, *subjects], request["spec"])
    take_rounds(reference, subjects, request["spec"], seed, progress)
    environment = {
        **machine(),
        "affinity": sorted(allowed_cores()) if affinity else [],
        "runtime_version": reference.model.version,
        **changes(before, conditions()),
        "gpu": watch() if watch else None,
    }
    return {"models": [subject.said() for subject in subjects], "environment": environment}


def _gpu_watch(gpu: dict[str, Any] | None) -> Callable[[], dict[str, Any] | None] | None:
    if gpu is None:
        return None
    from hwnas.devices.worker.runtimes.cuda import number_as_nvidia_smi
    from hwnas.devices.worker.runtimes.nvml import watch

    number_as_nvidia_smi()
    return watch(gpu["number"])


class _Progress:
    """Sends progress at most five times a second, so that writing does not disturb timing."""

    def __init__(self, channel: TextIO) -> None:
        self._channel, self._next = channel, 0.0

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            _send(self._channel, {"progress": [done, total]})
            self._next = time.monotonic() + 0.2


def _send(channel: TextIO, message: dict[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def main() -> int:
    """Answer one request; whatever a runtime prints on stdout goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        request = json.load(sys.stdin)
        if "operators" in request:
            from hwnas.devices.worker.profilers.profile import profile

            result = profile(request["operators"])
        else:
            result = measure(request, _Progress(channel))
    except BadModel as error:
        _send(channel, {"error": error.why, "file": error.path})
        return 1
    except (RuntimeError, OSError, MemoryError) as error:
        _send(channel, {"error": str(error) or type(error).__name__})
        return 1
    _send(channel, {"result": result})
    return 0
