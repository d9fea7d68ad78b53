"""Measures model files in a fresh process on the device itself.

It needs only the standard library, numpy and the runtime, so that it can be sent to another
computer (see `hwnas.devices.worker.archive`). It reads one JSON request from stdin, a
`hwnas.devices.runners.protocol.WorkerRequest`::

    {"runtime": "onnxruntime" | "litert" | "torch", "threads": 1, "affinity": [3] | null,
     "gpu": {"provider", "number", "precision", "engines"} | null, "seed": 0,
     "models": [{"name": "a", "path": "a.onnx"}, ...], "together": 16,
     "reference": "reference.onnx", "references": ["reference_96.onnx", ...],
     "probe": "reference_320.onnx",
     "spec": {"warmup_runs", "warmup_s", "runs", "min_rounds", "max_rounds", "ci", "max_s",
              "threads"}}

At most ``"together"`` models are open at once, a batch; batches are measured one after the other,
and the first has the whole warm-up. A model may have its own ``"runtime"``, a ``"batch"`` if the
file accepts any, and ``"shapes"`` of inputs, ``[{"name": "x" | null, "shape": [3, 96, 96]}]``, if
their sizes are free. The worker writes JSON lines to stdout:
``{"progress": [visits done, visits planned]}`` from time to time, and at the end
``{"result": {"models": [...], "environment": {...}}}``, or ``{"error": "..."}`` (with ``"file"`` if
a model file is to blame) and exit status 1.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO

from hwnas.devices.worker.conditions import (
    allowed_cores,
    changes,
    conditions,
    machine,
    too_few_cores,
)
from hwnas.devices.worker.load import busiest, read_ticks
from hwnas.devices.worker.model import BadModel
from hwnas.devices.worker.rounds import TimedModel, choose_references, take_rounds, warm_up


def measure(request: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Measure the models of a request; returns the ``result`` message."""
    cores, affinity = allowed_cores(), request.get("affinity")
    if affinity:
        os.sched_setaffinity(0, affinity)
    if problem := too_few_cores(request["threads"]):
        raise RuntimeError("; ".join(problem))
    before, ticks = conditions(), read_ticks(cores=cores)
    runtime, gpu = request["runtime"], request.get("gpu")
    watch = _gpu_watch(gpu)
    own = {"name": "reference", "path": request["reference"]}
    reference, results = TimedModel(own, runtime, request), list[dict[str, Any]]()
    for start in range(0, len(request["models"]), request["together"]):
        if start:  # where it lies in memory changes all ratios: another place for each batch
            reference = TimedModel(own, runtime, request)
        batch = request["models"][start : start + request["together"]]
        visits = sum(len(result["rounds"]) for result in results)
        later = (len(request["models"]) - start - len(batch)) * request["spec"]["min_rounds"]
        shifted = partial(_shifted, progress, visits, later)
        results += _measure_batch(batch, reference, request, shifted)
        # from now on the core is warm, and each model has warmup_runs calls
        request = {**request, "spec": {**request["spec"], "warmup_s": 0.0}}
    environment = {
        **machine(),
        "affinity": sorted(allowed_cores()) if affinity else [],
        "cores": len(cores) or None,
        "runtime_version": reference.model.version,
        **changes(before, conditions()),
        "gpu": watch() if watch else None,
        "programs": busiest(ticks, read_ticks(cores=cores), os.getpid()),
    }
    return {"models": results, "environment": environment}


def _measure_batch(
    batch: list[dict[str, Any]],
    reference: TimedModel,
    request: dict[str, Any],
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Measure models that are open at once; returns their results."""
    models: list[TimedModel] = []
    for model in batch:
        runtime = model.get("runtime") or request["runtime"]
        models.append(TimedModel(model, runtime, request))
        progress(0, len(batch) * request["spec"]["min_rounds"])
    beside = choose_references(models, reference, request)
    warm_up([reference, *beside, *models], request["spec"])
    take_rounds(reference, models, request["spec"], request["seed"], progress)
    return [model.result() for model in models]


def _shifted(
    progress: Callable[[int, int], None], before: int, after: int, done: int, planned: int
) -> None:
    """Report visits of a batch, with those of the batches before and after it."""
    progress(before + done, before + planned + after)


def _gpu_watch(gpu: dict[str, Any] | None) -> Callable[[], dict[str, Any] | None] | None:
    if gpu is None:
        return None
    from hwnas.devices.worker.runtimes.cuda import use_nvidia_smi_order
    from hwnas.devices.worker.runtimes.nvml import watch

    use_nvidia_smi_order()
    return watch(gpu["number"])


class _Progress:
    """Sends progress at most five times per second, so that writing does not disturb timing."""

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
    """Serve one request. Output of a runtime on stdout is redirected to stderr."""
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
