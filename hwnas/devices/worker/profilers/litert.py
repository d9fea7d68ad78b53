"""LiteRT's operator profiler, by ctypes on its C interface, since Python has none.

Handles are opaque; structures and constants are those of the C interface of LiteRT 2.3.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint64, c_void_p
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hwnas.devices.worker.runtimes.litert import silenced_stderr
from hwnas.devices.worker.runtimes.open import open_model

CPU = 1
WRITE = 1
"""Mode in which a tensor buffer is locked."""
OPERATOR, DELEGATED = 2, 8
"""Event types: an operator of the graph; an operator inside a delegate."""
MIN_VERSION = (2, 3)

Call = tuple[str, str, str, float]
"""Name, kind, provider, ms."""


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", c_char_p),
        ("type", c_int),
        ("start_us", c_uint64),
        ("elapsed_us", c_uint64),
        ("memory", c_int64 * 6),
        ("metadata", c_uint64 * 2),
        ("source", c_int),
    )


def litert_runs(path: str, threads: int, warmup_runs: int, runs: int) -> list[list[Call]]:
    """Run a file and return the operator calls of each profiled run.

    Raises `BadModel` for a file that LiteRT refuses, RuntimeError for another LiteRT.
    """
    open_model(path, "litert", 1)  # reports what is wrong with a file
    return _Session(path, threads).profile(warmup_runs, runs)


class _Session:
    """A compiled model with profiling on; it is never freed, as the process ends soon."""

    def __init__(self, path: str, threads: int) -> None:
        self._library = _library()
        with silenced_stderr():
            environment = self._handle("LiteRtCreateEnvironment", c_int(0), None)
            model = self._handle("LiteRtCreateModelFromFile", environment, path.encode())
            options = self._options(threads)
            self._compiled = self._handle("LiteRtCreateCompiledModel", environment, model, options)
        signature = c_void_p()
        self._call("LiteRtGetModelSignature", model, c_size_t(0), byref(signature))
        self._inputs = self._buffers(environment, signature, "Input")
        self._outputs = self._buffers(environment, signature, "Output")
        self._profiler = self._handle("LiteRtCompiledModelGetProfiler", self._compiled)
        if not self._profiler:
            raise RuntimeError(f"LiteRT {_version()} offers no profiler")

    def profile(self, warmup_runs: int, runs: int) -> list[list[Call]]:
        for _ in range(warmup_runs):
            self._run()
        calls: list[list[Call]] = []
        for _ in range(runs):
            self._call("LiteRtResetProfiler", self._profiler)
            self._call("LiteRtStartProfiler", self._profiler)
            self._run()
            self._call("LiteRtStopProfiler", self._profiler)
            calls.append(self._calls())
        return calls

    def _calls(self) -> list[Call]:
        count = c_int()
        self._call("LiteRtGetNumProfilerEvents", self._profiler, byref(count))
        events = (_Event * max(1, count.value))()
        self._call("LiteRtGetProfilerEvents", self._profiler, count, events)
        inside = any(event.type == DELEGATED for event in events[: count.value])
        calls: list[Call] = []
        for event in events[: count.value]:
            name = (event.tag or b"?").decode(errors="replace")
            delegate = "delegate" in name.lower()
            if event.type == DELEGATED:
                calls.append((f"{name}:{len(calls)}", name, "XNNPACK", event.elapsed_us / 1e3))
            elif event.type == OPERATOR and not (delegate and inside):
                calls.append((f"{name}:{len(calls)}", name, "LiteRT", event.elapsed_us / 1e3))
        return calls

    def _run(self) -> None:
        self._call(
            "LiteRtRunCompiledModel",
            self._compiled,
            c_size_t(0),
            c_size_t(len(self._inputs)),
            self._inputs,
            c_size_t(len(self._outputs)),
            self._outputs,
        )

    def _options(self, threads: int) -> c_void_p:
        options = self._handle("LiteRtCreateOptions")
        self._call("LiteRtSetOptionsHardwareAccelerators", options, c_int(CPU))
        for name, text in (
            ("xnnpack", f"num_threads = {threads}\n"),
            ("runtime_options_string", "enable_profiling = true\n"),
        ):
            self._texts = [*getattr(self, "_texts", []), ctypes.create_string_buffer(text.encode())]
            opaque = self._handle(
                "LiteRtCreateOpaqueOptions", name.encode(), self._texts[-1], _KEEP
            )
            self._call("LiteRtAddOpaqueOptions", options, opaque)
        return options

    def _buffers(self, environment: c_void_p, signature: c_void_p, side: str) -> Any:
        count = c_size_t()
        self._call(f"LiteRtGetNumSignature{side}s", signature, byref(count))
        buffers = (c_void_p * count.value)()
        for place in range(count.value):
            index, tensor, needs = c_size_t(place), c_void_p(), c_void_p()
            self._call(f"LiteRtGetSignature{side}TensorByIndex", signature, index, byref(tensor))
            kind = (c_uint64 * 64)()
            self._call("LiteRtGetRankedTensorType", tensor, kind)
            self._call(
                f"LiteRtGetCompiledModel{side}BufferRequirements",
                self._compiled,
                c_size_t(0),
                index,
                byref(needs),
            )
            buffer = self._handle(
                "LiteRtCreateManagedTensorBufferFromRequirements", environment, kind, needs
            )
            self._clear(buffer)
            buffers[place] = buffer
        return buffers

    def _clear(self, buffer: c_void_p) -> None:
        size, memory = c_size_t(), c_void_p()
        self._call("LiteRtGetTensorBufferPackedSize", buffer, byref(size))
        self._call("LiteRtLockTensorBuffer", buffer, byref(memory), c_int(WRITE))
        ctypes.memset(memory, 0, size.value)
        self._call("LiteRtUnlockTensorBuffer", buffer)

    def _handle(self, name: str, *arguments: Any) -> c_void_p:
        """Call a function whose last argument receives a handle."""
        handle = c_void_p()
        self._call(name, *arguments, byref(handle))
        return handle

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status:
            raise RuntimeError(f"LiteRT {_version()}: {name} failed with status {status}")


_FREE: Callable[..., Any] = ctypes.CFUNCTYPE(None, c_void_p)


def _nothing(_: int | None) -> None:
    """Do nothing where LiteRT frees the text of an option, which Python owns."""


_KEEP = _FREE(_nothing)


def _library() -> ctypes.CDLL:
    try:
        package = import_module("ai_edge_litert")
    except ImportError:
        raise RuntimeError(
            'operator times of .tflite files need LiteRT: pip install "ai-edge-litert>=2.3"'
        ) from None
    installed = tuple(int(part) for part in _version().split(".")[:2])
    if installed < MIN_VERSION:
        raise RuntimeError(
            f"operator times of .tflite files need LiteRT >= 2.3, found {_version()}: "
            'pip install "ai-edge-litert>=2.3"'
        )
    file = Path(str(package.__file__)).with_name("libLiteRt.so")
    library = ctypes.CDLL(str(file))
    library.LiteRtCreateEnvironment.restype = c_int
    library.LiteRtCreateEnvironment.argtypes = (c_int, c_void_p, POINTER(c_void_p))
    return library


def _version() -> str:
    return version("ai-edge-litert")
