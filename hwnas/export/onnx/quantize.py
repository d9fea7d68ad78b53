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
from hwnas.export.verification.metrics import Array

PREPROCESSED = {"onnx.quant.pre_process": "onnxruntime.quant"}
"""Metadata that states that batch norms are folded; without it the quantiser warns."""

QUANTISER_KEYS = (*PREPROCESSED, "onnx.infer")
"""Metadata of the quantiser, which is removed from the file."""


def quantize_onnx(
    source: Path,
    target: Path,
    images: Array,
    quantization: Quantization,
    float_layers: tuple[str, ...],
) -> None:
    """Write the int8 file: activations uint8, weights int8 per channel, float32 in and out."""
    import onnx
    from onnxruntime import quantization as ort

    model = onnx.load(str(source))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, **PREPROCESSED})
    method = {
        "minmax": ort.CalibrationMethod.MinMax,
        "percentile": ort.CalibrationMethod.Percentile,
        "entropy": ort.CalibrationMethod.Entropy,
    }[quantization.calibration]
    options: dict[str, Any] = {}
    if quantization.calibration == "percentile":
        options["CalibPercentile"] = quantization.percentile
    with redirect_stdout(io.StringIO()):
        ort.quantize_static(
            model,
            str(target),
            _calibration_reader(ort, images),
            quant_format=ort.QuantFormat.QDQ,
            activation_type=ort.QuantType.QUInt8,
            weight_type=ort.QuantType.QInt8,
            per_channel=True,
            reduce_range=quantization.reduce_range,
            calibrate_method=method,
            nodes_to_exclude=[name for layer in float_layers for name in _node_names(layer)],
            extra_options=options,
        )
    model = onnx.load(str(target))
    for layer in float_layers:
        _keep_float(model, layer)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for key in QUANTISER_KEYS:
        metadata.pop(key, None)
    onnx.helper.set_model_props(model, metadata)
    model.producer_name, model.producer_version = "hwnas", ""
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _node_names(layer: str) -> tuple[str, str]:
    """Return the names that the node of a layer may have, without or with a fused activation."""
    return layer, f"{layer}.before"


def _keep_float(model: Any, layer: str) -> None:
    """Insert a ``Sum`` of a single value between a dequantised input and the layer.

    When ONNX Runtime opens a file, it quantises the float weights of a convolution between
    dequantisation and quantisation (its ``WeightBiasQuantization``); the ``Sum`` prevents it.
    """
    from onnx import helper

    producers = {output: node for node in model.graph.node for output in node.output}
    for index, node in enumerate(model.graph.node):
        if node.name not in _node_names(layer) or node.op_type not in ("Conv", "Gemm"):
            continue
        source = producers.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            value = f"{layer}.float"
            between = helper.make_node("Sum", [node.input[0]], [value], name=value)
            node.input[0] = value
            model.graph.node.insert(index, between)
        return


def _calibration_reader(ort: Any, images: Array) -> Any:
    class Reader(ort.CalibrationDataReader):
        """Yields the images one at a time."""

        def __init__(self) -> None:
            self._images: Iterator[Array] = iter(images.astype(np.float32))

        def get_next(self) -> dict[str, Array] | None:
            image = next(self._images, None)
            return None if image is None else {INPUT: image[None]}

    return Reader()
