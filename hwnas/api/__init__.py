"""The public functions of hwnas, which are also attributes of the package ``hwnas``.

They take Python values, do what the commands of the same names do, and return plain data. Errors
that users can correct are `hwnas.HwnasError`: one line with the value, its place and the expected
form.
"""

from __future__ import annotations

from hwnas.api.compiler import export, verify
from hwnas.api.devices import devices, measure_latency_model
from hwnas.api.model_files import benchmark, evaluate, predict
from hwnas.api.networks import load_architecture, load_pretrained
from hwnas.api.run import specialize

__all__ = [
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
