"""ONNX Runtime's CUDA and TensorRT providers; raises if ONNX Runtime falls back to the CPU.

Input and output stay on the GPU; a run is timed by events on its own stream. Three checks make sure
that the GPU computes: a session on a model of one operator (a library that lists a provider may be
unable to start it, and then uses the CPU silently), the session's providers, and the provider of
every node in a profiled run.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.devices.worker.model import Array, BadModel
from hwnas.devices.worker.runtimes.cuda import EventClock, TimedRun, find_cuda_gpu, median_ms
from hwnas.devices.worker.runtimes.onnxruntime_cpu import (
    import_onnxruntime,
    onnx_feed,
    onnx_inputs,
    onnx_options,
)
from hwnas.devices.worker.runtimes.refusals import refused

PROVIDERS = {"cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
FALLBACKS = {"cuda": (), "tensorrt": ("CUDAExecutionProvider",)}
"""Providers that may compute what a provider does not support, on the same GPU."""
PACKAGE = "pip uninstall -y onnxruntime; pip install onnxruntime-gpu"
ONE_RELU = bytes.fromhex(
    "080712003a330a0c0a0178120179220452656c751201675a0f0a0178120a0a08"
    "080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)
"""An ONNX file with one operator on one number."""


class OnnxGpuModel:
    """A session of the CUDA or TensorRT provider; a `Model` and `GpuModel`."""

    def __init__(self, path: str, threads: int, gpu: dict[str, Any]) -> None:
        self._ort, self._path, self._threads, self._gpu = import_onnxruntime(), path, threads, gpu
        self.version = f"{self._ort.__version__}, {PROVIDERS[gpu['provider']]}"
        check_provider(self._ort, gpu["provider"], gpu["number"])
        self._clock = EventClock(gpu["number"])
        self._session = self._open(profiled=None)
        if self._session.get_providers()[0] != PROVIDERS[gpu["provider"]]:
            raise RuntimeError(_fallback_error(gpu["provider"], self._session.get_providers()))
        self.inputs = onnx_inputs(path, self._session)
        self.output_names = tuple(output.name for output in self._session.get_outputs())
        self.run = TimedRun(self._run, self._clock)
        self._nodes: dict[str, int] = {}

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        self._feed = onnx_feed(self._path, self.inputs, arrays)
        self._binding = self._session.io_binding()
        self._values: dict[str, Any] = {}
        for name, array in self._feed.items():
            self._values[name] = self._ort.OrtValue.ortvalue_from_numpy(
                array, "cuda", self._gpu["number"]
            )
            self._binding.bind_ortvalue_input(name, self._values[name])
        for output in self._session.get_outputs():
            self._binding.bind_output(output.name, "cuda", self._gpu["number"])

    def outputs(self) -> list[Array]:
        return [np.array(value) for value in self._binding.copy_outputs_to_cpu()]

    def check(self) -> None:
        """Raise `BadModel` for nodes that another provider computes. Needs `set_inputs` before."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._open(profiled=str(Path(folder) / "profile"))
            session.run(None, self._feed)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        providers = providers_of(events)
        allowed = {PROVIDERS[self._gpu["provider"]], *FALLBACKS[self._gpu["provider"]]}
        outside = [
            f"{node} ({provider})"
            for node, provider in providers.items()
            if provider not in allowed
        ]
        if outside or not providers:
            listed = ", ".join(outside[:5]) + (f", {len(outside) - 5} more" if outside[5:] else "")
            raise BadModel(
                self._path,
                f"{len(outside)} of {len(providers)} nodes do not run on the GPU: "
                f"{listed or 'the profile names no node'}",
            )
        self._nodes = dict(Counter(providers.values()))

    def gpu_execution(self) -> dict[str, Any]:
        return {
            "provider": PROVIDERS[self._gpu["provider"]],
            "precision": self._gpu["precision"],
            "clock": self._clock.name,
            "batch": len(next(iter(self._feed.values()))),
            "wall_ms": self.run.wall_ms,
            "to_gpu_ms": median_ms(self._to_gpu),
            "from_gpu_ms": median_ms(self._binding.copy_outputs_to_cpu),
            "nodes": self._nodes,
        }

    def _to_gpu(self) -> None:
        for name, array in self._feed.items():
            self._values[name].update_inplace(array)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)

    def _open(self, profiled: str | None) -> Any:
        options = onnx_options(self._ort, self._threads)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if profiled is not None:
            options.enable_profiling = True
            options.profile_file_prefix = profiled
        providers = provider_options(self._gpu, self._clock.stream)
        try:
            return self._ort.InferenceSession(self._path, options, providers=providers)
        except Exception as error:
            raise refused(self._path, error, f"ONNX Runtime {self.version}") from None


def provider_options(gpu: dict[str, Any], stream: int) -> list[tuple[str, dict[str, str]]]:
    """Return the providers of a session with their options, the requested one first."""
    shared = {"device_id": str(gpu["number"]), "user_compute_stream": str(stream)}
    cuda = {**shared, "use_tf32": "1" if gpu["precision"] == "tf32" else "0"}
    if gpu["provider"] == "cuda":
        return [(PROVIDERS["cuda"], cuda)]
    engines = {"trt_fp16_enable": "True" if gpu["precision"] == "fp16" else "False"}
    if gpu["engines"]:  # building one takes minutes; cached for the next process
        os.makedirs(gpu["engines"], exist_ok=True)
        engines |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": gpu["engines"]}
    return [(PROVIDERS["tensorrt"], {**shared, **engines}), (PROVIDERS["cuda"], cuda)]


@cache
def check_provider(ort: Any, provider: str, number: int) -> None:
    """Raise RuntimeError for a provider that is missing, or listed but unable to start."""
    name, listed = PROVIDERS[provider], ort.get_available_providers()
    if name not in listed:
        raise RuntimeError(
            f"this ONNX Runtime has no {name}, it has {', '.join(listed)}; {PACKAGE}"
        )
    find_cuda_gpu(number)
    options = onnx_options(ort, 1)
    providers = [(name, {"device_id": str(number)})]
    try:
        used = ort.InferenceSession(ONE_RELU, options, providers=providers).get_providers()
    except Exception as error:
        raise RuntimeError(f"{name} cannot start: {str(error).splitlines()[0]}") from None
    if used[0] != name:
        raise RuntimeError(_fallback_error(provider, used))


def providers_of(events: Iterable[dict[str, Any]]) -> dict[str, str]:
    """Return which provider computed each node, from the events of ONNX Runtime's profile."""
    return {
        str(event["name"]).removesuffix("_kernel_time"): str(
            event.get("args", {}).get("provider", "?")
        )
        for event in events
        if event.get("cat") == "Node" and str(event.get("name", "")).endswith("_kernel_time")
    }


def _fallback_error(provider: str, used: list[str]) -> str:
    return (
        f"{PROVIDERS[provider]} is listed but cannot start, ONNX Runtime fell back to {used[0]}: "
        "are the CUDA, cuDNN and TensorRT libraries of its version installed?"
    )
