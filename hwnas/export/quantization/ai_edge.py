"""The child process in which ``ai-edge-quantizer`` runs and its files are opened first.

Both are native code that may abort the process for unusual scales.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.devices.worker.model import input_shapes
from hwnas.devices.worker.runtimes.litert import LiteRtModel, silenced_stderr
from hwnas.errors import first_line
from hwnas.processes import serve_json_lines

FLOAT_OPERATORS = ("DIV",)
"""Operators that stay in float32: LiteRT refuses a divisor whose rounded value is 0."""


class Job(msgspec.Struct, frozen=True):
    """A file to write, and the layers that stay in float32."""

    target: str
    float_layers: tuple[str, ...] = ()


class Request(msgspec.Struct, frozen=True):
    """A float file to quantise with the ranges of its values."""

    source: str
    ranges: dict[str, tuple[float, float]]
    job: Job


def _quantise(request: Request) -> bool:
    target = Path(request.job.target)
    try:
        with silenced_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.write_bytes(_quantised(request))
            model = LiteRtModel(str(target))
            shapes = input_shapes(str(target), model.inputs)
            model.set_inputs([np.zeros(shape, np.float32) for shape in shapes])
            model.run()
    except ImportError:
        raise RuntimeError(
            'int8 in TFLite needs ai-edge-quantizer: pip install "hwnas[int8]"'
        ) from None
    except (OSError, ValueError, RuntimeError):
        raise
    except Exception as error:  # of the quantiser's own code
        raise RuntimeError(f"ai-edge-quantizer failed: {first_line(error)}") from None
    return True


def _quantised(request: Request) -> bytes:
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    quantiser = quantizer.Quantizer(request.source, recipe.static_wi8_ai8())
    for op in FLOAT_OPERATORS:
        quantiser.update_quantization_recipe(
            ".*", TFLOperationName(op), algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    for layer in request.job.float_layers:
        quantiser.update_quantization_recipe(
            rf"(?<![\w.]){re.escape(layer)}(?![\w.])",
            TFLOperationName.ALL_SUPPORTED,
            algorithm_key=AlgorithmName.NO_QUANTIZE,
        )
    ranges: Any = {
        name: {"min": np.float32(low), "max": np.float32(high)}
        for name, (low, high) in request.ranges.items()
    }
    result = quantiser.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)  # type: ignore[arg-type]


if __name__ == "__main__":
    serve_json_lines(_quantise, Request)
