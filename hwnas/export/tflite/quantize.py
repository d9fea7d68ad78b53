"""Static quantisation of a TFLite file to int8, by ``ai-edge-quantizer``.

The ranges of activations are measured here, over all images, and passed to the quantiser: its own
moving average would forget rare large values.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.devices.worker.runtimes.litert import silenced_stderr
from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.metrics import Array

Ranges = dict[str, tuple[float, float]]

HISTOGRAM_BINS = 4096
"""Resolution of the histogram whose tails ``percentile`` cuts off."""


def quantize_tflite(
    source: Path,
    target: Path,
    images: Array,
    quantization: Quantization,
    float_layers: tuple[str, ...],
) -> None:
    """Write the int8 file: activations int8, weights int8 per channel, int8 in and out."""
    try:
        from ai_edge_quantizer import quantizer, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.qtyping import TFLOperationName
    except ImportError:
        message = 'int8 in TFLite needs ai-edge-quantizer: pip install "hwnas[int8]"'
        raise ExportError(message) from None
    with silenced_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranges = activation_ranges(source, images, quantization)
        quantiser = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        for layer in float_layers:
            quantiser.update_quantization_recipe(
                rf"(?<![\w.]){re.escape(layer)}(?![\w.])",
                TFLOperationName.ALL_SUPPORTED,
                algorithm_key=AlgorithmName.NO_QUANTIZE,
            )
        result = quantiser.quantize(
            {
                name: {"min": np.float32(low), "max": np.float32(high)}
                for name, (low, high) in ranges.items()
            },
            enable_progress_bar=False,
            enable_progress_report=False,
        )
    target.write_bytes(bytes(result.quantized_model))  # type: ignore[arg-type]


def activation_ranges(source: Path, images: Array, quantization: Quantization) -> Ranges:
    """Return minimum and maximum of every computed float tensor, by its name.

    With ``percentile`` the same fraction of values is cut off at both ends, by a histogram.
    """
    ranges: Ranges = {}
    for name, values in _computed_values(source, images):
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    if quantization.calibration == "minmax":
        return ranges
    return _percentile_ranges(source, images, ranges, quantization.percentile)


def _percentile_ranges(source: Path, images: Array, ranges: Ranges, percentile: float) -> Ranges:
    counts = {name: np.zeros(HISTOGRAM_BINS, np.int64) for name in ranges}
    for name, values in _computed_values(source, images):
        counts[name] += np.histogram(values, HISTOGRAM_BINS, ranges[name])[0]
    tail = (1 - percentile / 100) / 2
    result: Ranges = {}
    for name, (low, high) in ranges.items():
        cumulative = counts[name].cumsum() / max(1, counts[name].sum())
        edges = np.linspace(low, high, HISTOGRAM_BINS + 1)
        first = int(np.searchsorted(cumulative, tail, side="right"))
        last = int(np.searchsorted(cumulative, 1 - tail))
        first, last = (min(index, HISTOGRAM_BINS - 1) for index in (first, last))
        result[name] = float(edges[first]), float(edges[last + 1])
    return result


def _computed_values(source: Path, images: Array) -> Iterator[tuple[str, Array]]:
    """Run the file on every image and yield the name and value of every computed float tensor."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model: Any = schema.Model.GetRootAs(source.read_bytes(), 0)
    graph = model.Subgraphs(0)
    constant = {
        index
        for index in range(graph.TensorsLength())
        if model.Buffers(graph.Tensors(index).Buffer()).DataLength()
    }
    with silenced_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that preserving all tensors is for debugging
        interpreter = Interpreter(
            model_path=str(source), num_threads=1, experimental_preserve_all_tensors=True
        )
        interpreter.allocate_tensors()
    computed = [
        (tensor["index"], tensor["name"])
        for tensor in interpreter.get_tensor_details()
        if tensor["index"] not in constant
        and tensor["index"] < graph.TensorsLength()
        and tensor["dtype"] == np.float32
    ]
    input_index = interpreter.get_input_details()[0]["index"]
    for image in images.astype(np.float32):
        interpreter.set_tensor(input_index, image.transpose(1, 2, 0)[None])
        interpreter.invoke()
        for index, name in computed:
            yield name, interpreter.get_tensor(index)
