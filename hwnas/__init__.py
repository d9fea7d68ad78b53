"""Hardware-aware model compiler: from a device, a latency budget and data to a measured model file.

    >>> import hwnas
    >>> "host-cpu" in [profile.name for profile in hwnas.devices()]
    True

Names are imported when they are used, so ``import hwnas`` is quick and imports neither torch nor a
runtime. The functions are in `hwnas.api`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwnas.api import (
        benchmark,
        devices,
        evaluate,
        export,
        load_architecture,
        load_pretrained,
        measure_latency_model,
        predict,
        specialize,
        verify,
    )
    from hwnas.architecture.architecture import Architecture
    from hwnas.architecture.artifact import Artifact
    from hwnas.benchmarking.result import BenchmarkResult
    from hwnas.devices.profile import DeviceProfile
    from hwnas.errors import HwnasError
    from hwnas.evaluation.predict import Prediction
    from hwnas.evaluation.result import Evaluation
    from hwnas.latency_models.model import LatencyModel
    from hwnas.report.report import Report

__version__ = "0.1.0"

__all__ = [
    "Architecture",
    "Artifact",
    "BenchmarkResult",
    "DeviceProfile",
    "Evaluation",
    "HwnasError",
    "LatencyModel",
    "Prediction",
    "Report",
    "__version__",
    "benchmark",
    "devices",
    "evaluate",
    "export",
    "load_architecture",
    "load_pretrained",
    "measure_latency_model",
    "predict",
    "specialize",
    "verify",
]

_MODULES = {
    "Architecture": "hwnas.architecture.architecture",
    "Artifact": "hwnas.architecture.artifact",
    "BenchmarkResult": "hwnas.benchmarking.result",
    "DeviceProfile": "hwnas.devices.profile",
    "Evaluation": "hwnas.evaluation.result",
    "HwnasError": "hwnas.errors",
    "LatencyModel": "hwnas.latency_models.model",
    "Prediction": "hwnas.evaluation.predict",
    "Report": "hwnas.report.report",
    "benchmark": "hwnas.api",
    "evaluate": "hwnas.api",
    "load_architecture": "hwnas.api",
    "load_pretrained": "hwnas.api",
    "measure_latency_model": "hwnas.api",
    "predict": "hwnas.api",
    "verify": "hwnas.api",
}
_CALLABLE_PACKAGES = ("devices", "export", "specialize")
"""Packages that are also functions, see `hwnas.callable_package`."""


def __getattr__(name: str) -> Any:
    if name in _CALLABLE_PACKAGES:
        return import_module(f"hwnas.{name}")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'hwnas' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
