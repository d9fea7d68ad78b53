"""The child process in which ``ai-edge-quantizer`` runs and its files are opened first.

Both are native code that may abort the process for unusual scales.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from hwnas.devices.worker.model import input_shapes
from hwnas.devices.worker.runtimes.litert import LiteRtModel, silenced_stderr
from hwnas.errors import first_line
from hwnas.export.tflite.flatbuffer import repacked
from hwnas.processes import serve_json_lines

FLOAT_OPERATORS = ("DIV",)
"""Operators that stay in float32: LiteRT refuses a divisor whose rounded value is 0."""


ONE_SCALE_OPERATORS = ("BATCH_MATMUL",)
"""Operators whose constants have a scale for all channels: LiteRT reads one, else gives zeros."""


class Job(msgspec.Struct, frozen=True):
    """A file to write, and what stays in float32."""

    target: str
    float_layers: tuple[str, ...] = ()
    float_operators: tuple[str, ...] = ()
    """Operators by the names of their first outputs, and inputs of the network."""


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
    from ai_edge_quantizer.qtyping import (
        OpQuantizationConfig,
        QuantGranularity,
        TFLOperationName,
    )

    everywhere = recipe.static_wi8_ai8()
    quantiser = quantizer.Quantizer(request.source, everywhere)
    for op in ONE_SCALE_OPERATORS:
        settings = OpQuantizationConfig.from_dict(everywhere[0]["op_config"])
        assert settings.weight_tensor_config is not None
        weights = replace(settings.weight_tensor_config, granularity=QuantGranularity.TENSORWISE)
        quantiser.update_quantization_recipe(
            ".*",
            TFLOperationName(op),
            op_config=replace(settings, weight_tensor_config=weights),
            algorithm_key=everywhere[0]["algorithm_key"],
        )
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
    if request.job.float_operators:
        names = "|".join(map(re.escape, request.job.float_operators))
        quantiser.update_quantization_recipe(
            rf"(^|;)({names});",
            TFLOperationName.ALL_SUPPORTED,
            algorithm_key=AlgorithmName.NO_QUANTIZE,
        )
    ranges: Any = {
        name: {"min": np.float32(low), "max": np.float32(high)}
        for name, (low, high) in request.ranges.items()
    }
    result = quantiser.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return _named(bytes(result.quantized_model), request.source)  # type: ignore[arg-type]


def _named(data: bytes, source: str) -> bytes:
    """Give inputs and outputs the names that they have in ``source``.

    The quantiser gives others to those that it converts, where the layer beside stays in float32.
    """
    from ai_edge_litert import schema_py_generated as schema

    def names(content: bytes) -> list[bytes]:
        packed: Any = schema.Model.GetRootAs(content, 0)
        graph = packed.Subgraphs(0)
        ends = (*graph.InputsAsNumpy(), *graph.OutputsAsNumpy())
        return [graph.Tensors(index).Name() for index in ends]

    wanted = names(Path(source).read_bytes())
    if names(data) == wanted:
        return data
    packed: Any = schema.Model.GetRootAs(data, 0)
    model: Any = schema.ModelT.InitFromObj(packed)
    graph = model.subgraphs[0]
    ends = dict(zip((*graph.inputs, *graph.outputs), wanted, strict=True))
    for index, tensor in enumerate(graph.tensors):
        inner = tensor.name + b"_float" if tensor.name in wanted else tensor.name
        tensor.name = ends.get(index, inner)
    return repacked(model, len(data) + (1 << 16))


if __name__ == "__main__":
    serve_json_lines(_quantise, Request)
