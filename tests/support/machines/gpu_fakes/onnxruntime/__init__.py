"""A fake of onnxruntime-gpu in a worker: this machine's ONNX Runtime claims to use a GPU.

``HWNAS_FAKE_GPU``: ``ok``, ``fallback`` (lists the providers, starts none of them), ``astray`` (the
first node of a profile stays on the CPU).
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
BEHAVIOUR = os.environ.get("HWNAS_FAKE_GPU", "ok")
PROVIDERS = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]

sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != HERE]
del sys.modules["onnxruntime"]
real: Any = importlib.import_module("onnxruntime")
RealSession, RealOptions, RealValue = real.InferenceSession, real.SessionOptions, real.OrtValue


class SessionOptions(RealOptions):
    strict = False

    def add_session_config_entry(self, name: str, value: str) -> None:
        if name == "session.disable_cpu_ep_fallback":
            self.strict = value == "1"
        else:
            super().add_session_config_entry(name, value)


class InferenceSession:
    def __init__(self, model: Any, options: Any, providers: Any) -> None:
        assert isinstance(model, bytes) or options.strict, "a fall-back to the CPU must be refused"
        self.wanted = [name for name, _ in providers]
        self.options = dict(providers)
        self.real = RealSession(model, options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def get_providers(self) -> list[str]:
        return [*(self.wanted if BEHAVIOUR != "fallback" else []), "CPUExecutionProvider"]

    def io_binding(self) -> Binding:
        return Binding(self.real.io_binding())

    def run_with_iobinding(self, binding: Binding) -> None:
        assert int(self.options[self.wanted[0]]["user_compute_stream"]), "needs a stream"
        self.real.run_with_iobinding(binding.real)

    def end_profiling(self) -> str:
        path = self.real.end_profiling()
        events = json.loads(Path(path).read_text())
        nodes = [event for event in events if event.get("args", {}).get("provider")]
        for event in nodes[1 if BEHAVIOUR == "astray" else 0 :]:
            event["args"]["provider"] = self.wanted[0]
        Path(path).write_text(json.dumps(events))
        return path


class Binding:
    def __init__(self, binding: Any) -> None:
        self.real = binding

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.real.bind_ortvalue_input(name, value)

    def bind_output(self, name: str, device: str, number: int) -> None:
        assert (device, number) == ("cuda", 0), "the output must stay on the GPU"
        self.real.bind_output(name, "cpu")

    def copy_outputs_to_cpu(self) -> Any:
        return self.real.copy_outputs_to_cpu()


class OrtValue:
    @staticmethod
    def ortvalue_from_numpy(array: Any, device: str, number: int) -> Any:
        assert (device, number) == ("cuda", 0), "the input must go to the GPU"
        return RealValue.ortvalue_from_numpy(array)


real.SessionOptions, real.InferenceSession, real.OrtValue = (
    SessionOptions,
    InferenceSession,
    OrtValue,
)
real.get_available_providers = lambda: PROVIDERS
