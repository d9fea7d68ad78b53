"""Static quantisation of a TFLite file to int8, by ``ai-edge-quantizer``.

The ranges are measured here, in LiteRT's interpreter with all values kept, and handed to the
quantiser: over all images, where its own moving average would forget the rare large values.
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

Array = np.ndarray[Any, Any]
Ranges = dict[str, tuple[float, float]]

BINS = 4096
"""Of the histogram whose tails ``percentile`` cuts."""


def quantize_tflite(
    source: Path, target: Path, images: Array, how: Quantization, float_layers: tuple[str, ...]
) -> None:
    """Write the int8 file: activations int8, weights int8 per channel, int8 in and out."""
    try:
        from ai_edge_quantizer import quantizer, recipe
        from ai_edge_quantizer.algorithm_manager import AlgorithmName
        from ai_edge_quantizer.qtyping import TFLOperationName
    except ImportError:
        raise ExportError(
            'TFLite in int8 needs ai-edge-quantizer: pip install "hwnas[int8]"'
        ) from None
    with silenced_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ranges = activation_ranges(source, images, how)
        work = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        for layer in float_layers:
            work.update_quantization_recipe(
                rf"(?<![\w.]){re.escape(layer)}(?![\w.])",
                TFLOperationName.ALL_SUPPORTED,
                algorithm_key=AlgorithmName.NO_QUANTIZE,
            )
        found = work.quantize(
            {
                name: {"min": np.float32(low), "max": np.float32(high)}
                for name, (low, high) in ranges.items()
            },
            enable_progress_bar=False,
            enable_progress_report=False,
        )
    target.write_bytes(bytes(found.quantized_model))  # type: ignore[arg-type]


def activation_ranges(source: Path, images: Array, how: Quantization) -> Ranges:
    """Return the least and greatest value of every float tensor that is computed, by its name.

    With ``percentile`` the same share of values is cut at both ends, by a histogram.
    """
    ranges: Ranges = {}
    for name, values in _values(source, images):
        low, high = ranges.get(name, (np.inf, -np.inf))
        ranges[name] = min(low, float(values.min())), max(high, float(values.max()))
    return ranges if how.calibration == "minmax" else _cut(source, images, ranges, how.percentile)


def _cut(source: Path, images: Array, ranges: Ranges, percentile: float) -> Ranges:
    counts = {name: np.zeros(BINS, np.int64) for name in ranges}
    for name, values in _values(source, images):
        counts[name] += np.histogram(values, BINS, ranges[name])[0]
    tail = (1 - percentile / 100) / 2
    cut: Ranges = {}
    for name, (low, high) in ranges.items():
        shares = counts[name].cumsum() / max(1, counts[name].sum())
        edges = np.linspace(low, high, BINS + 1)
        first = int(np.searchsorted(shares, tail, side="right"))
        last = int(np.searchsorted(shares, 1 - tail))
        cut[name] = float(edges[min(first, BINS - 1)]), float(edges[min(last, BINS - 1) + 1])
    return cut


def _values(source: Path, images: Array) -> Iterator[tuple[str, Array]]:
    """Run the file on every image and yield all computed float values with their names."""
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model: Any = schema.Model.GetRootAs(source.read_bytes(), 0)
    graph = model.Subgraphs(0)
    constant = {
        place
        for place in range(graph.TensorsLength())
        if model.Buffers(graph.Tensors(place).Buffer()).DataLength()
    }
    with silenced_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # to keep all values is for debugging only, it says
        interpreter = Interpreter(
            model_path=str(source), num_threads=1, experimental_preserve_all_tensors=True
        )
        interpreter.allocate_tensors()
    computed = [
        (one["index"], one["name"])
        for one in interpreter.get_tensor_details()
        if one["index"] not in constant
        and one["index"] < graph.TensorsLength()
        and one["dtype"] == np.float32
    ]
    place = interpreter.get_input_details()[0]["index"]
    for image in images.astype(np.float32):
        interpreter.set_tensor(place, image.transpose(1, 2, 0)[None])
        interpreter.invoke()
        for index, name in computed:
            yield name, interpreter.get_tensor(index)
