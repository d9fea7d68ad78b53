"""Static quantisation of an ONNX file to QDQ form, by ``onnxruntime.quantization``."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.export.graph.nodes import INPUT
from hwnas.export.recipe import Quantization

Array = np.ndarray[Any, Any]

_PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Says that batch norms are folded; else the quantiser warns of it."""

_ITS_NOTES = (*_PREPARED, "onnx.infer")


def quantize_onnx(
    source: Path, target: Path, images: Array, how: Quantization, float_layers: tuple[str, ...]
) -> None:
    """Write the int8 file: activations uint8, weights int8 per channel, float32 in and out."""
    import onnx
    from onnxruntime import quantization as ort

    model = onnx.load(str(source))
    notes = {note.key: note.value for note in model.metadata_props}
    onnx.helper.set_model_props(model, {**notes, **_PREPARED})
    method = {
        "minmax": ort.CalibrationMethod.MinMax,
        "percentile": ort.CalibrationMethod.Percentile,
        "entropy": ort.CalibrationMethod.Entropy,
    }[how.calibration]
    options: dict[str, Any] = {}
    if how.calibration == "percentile":
        options["CalibPercentile"] = how.percentile
    with redirect_stdout(io.StringIO()):
        ort.quantize_static(
            model,
            str(target),
            _reader(ort, images),
            quant_format=ort.QuantFormat.QDQ,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            per_channel=True,
            reduce_range=how.reduce_range,
            calibrate_method=method,
            nodes_to_exclude=[name for one in float_layers for name in _nodes_of(one)],
            extra_options=options,
        )
    model = onnx.load(str(target))
    for layer in float_layers:
        _keep_float(model, layer)
    kept = {n.key: n.value for n in model.metadata_props if n.key not in _ITS_NOTES}
    onnx.helper.set_model_props(model, kept)
    model.producer_name, model.producer_version = "hwnas", ""
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _nodes_of(layer: str) -> tuple[str, str]:
    """Return the names that a layer's node may have: an activation that it carries has its own."""
    return layer, f"{layer}.before"


def _keep_float(model: Any, layer: str) -> None:
    """Put a sum of one value between a dequantised input and the layer.

    ONNX Runtime quantises the float weights of a convolution that it finds between dequantisation
    and quantisation when it opens a file (its ``WeightBiasQuantization``).
    """
    from onnx import helper

    made = {output: node for node in model.graph.node for output in node.output}
    for place, node in enumerate(model.graph.node):
        if node.name not in _nodes_of(layer) or node.op_type not in ("Conv", "Gemm"):
            continue
        source = made.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            value = f"{layer}.float"
            between = helper.make_node("Sum", [node.input[0]], [value], name=value)
            node.input[0] = value
            model.graph.node.insert(place, between)
        return


def _reader(ort: Any, images: Array) -> Any:
    class Reader(ort.CalibrationDataReader):
        """Hands the images over one by one."""

        def __init__(self) -> None:
            self._images: Iterator[Array] = iter(images.astype(np.float32))

        def get_next(self) -> dict[str, Array] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    return Reader()
