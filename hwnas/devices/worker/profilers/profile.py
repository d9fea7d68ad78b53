"""Profiles a model file in the worker: the time of each operator, run by run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from hwnas.devices.worker.model import BadModel, input_shapes
from hwnas.devices.worker.runtimes.onnxruntime_cpu import (
    OnnxModel,
    import_onnxruntime,
    onnx_feed,
    onnx_options,
)

WARMUP_RUNS = 10
PROFILED_RUNS = 30

Call = tuple[str, str, str, float]
"""Name, kind, provider, ms."""


def profile(request: dict[str, Any]) -> dict[str, Any]:
    """Profile the file of a request (``path``, ``runtime``, ``threads``); returns its ``rows``.

    ``shapes`` are those of `hwnas.devices.worker.model.input_shapes`.
    """
    path, threads = request["path"], request["threads"]
    if request["runtime"] == "onnxruntime":
        return {"rows": _onnx_rows(path, threads, request.get("shapes") or ())}
    from hwnas.devices.worker.profilers.litert import litert_runs

    return {"rows": median_rows(litert_runs(path, threads, WARMUP_RUNS, PROFILED_RUNS))}


def _onnx_rows(
    path: str, threads: int, stated: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    ort = import_onnxruntime()
    with TemporaryDirectory() as folder:
        options = onnx_options(ort, threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        model = OnnxModel(path, threads)  # reports a broken file, and gives the inputs
        try:
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise BadModel(path, error) from None
        shapes = input_shapes(path, model.inputs, None, stated)
        feed = onnx_feed(path, model.inputs, [np.zeros(shape) for shape in shapes])
        for _ in range(WARMUP_RUNS + PROFILED_RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return median_rows(onnx_runs(events)[WARMUP_RUNS:])


def onnx_runs(events: Iterable[dict[str, Any]]) -> list[list[Call]]:
    """Return the operator calls of each run from the events of ONNX Runtime's profile.

    A run ends with its ``model_run`` event, whose duration encloses its operators'.
    """
    runs: list[list[Call]] = []
    calls: list[tuple[float, Call]] = []
    ordered = [event for event in events if isinstance(event.get("dur"), int | float)]
    for event in ordered:
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time"):
            args = event.get("args", {})
            name = event["name"].removesuffix("_kernel_time")
            kind, provider = args.get("op_name", "?"), args.get("provider", "?")
            calls.append((event["ts"], (name, kind, provider, event["dur"] / 1e3)))
        elif event.get("name") == "model_run" and calls:
            calls.sort(key=lambda timed: timed[0])
            runs.append([call for _, call in calls])
            calls = []
    return runs


def median_rows(runs: list[list[Call]]) -> list[dict[str, Any]]:
    """Return the median of each operator over the runs that have all operators."""
    if not runs or not runs[0]:
        raise RuntimeError("the runtime's profiler reported no operators")
    complete = [run for run in runs if len(run) == len(runs[0])]
    return [
        {
            "name": runs[0][place][0],
            "kind": runs[0][place][1],
            "provider": runs[0][place][2],
            "median_ms": median(run[place][3] for run in complete),
        }
        for place in range(len(runs[0]))
    ]
