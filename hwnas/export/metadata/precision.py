"""The precision of a model file, from its operators and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.architecture.artifact import Precision
from hwnas.export.metadata.entries import read_onnx, read_tflite, readable
from hwnas.export.recipe import format_of

ONNX_INTEGER = {"QuantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger"}
"""Operations that compute with 8 bits, besides those whose names begin with ``QLinear``."""

TFLITE_INTEGERS = (3, 9)
"""The schema's types ``UINT8`` and ``INT8``."""
ONNX_FLOAT16, TFLITE_FLOAT16 = 10, 1
"""Floats of 16 bits in the two schemas."""


def precision_of(path: Path) -> Precision:
    """Return ``int8`` if a file rounds values to 8 bits, ``fp16`` if weights have 16 bits.

    Any other is ``fp32``. Raises `InvalidFile`.
    """
    if format_of(path) == "onnx":
        graph = read_onnx(path).graph
        ops = {node.op_type for node in graph.node}
        halves = any(weight.data_type == ONNX_FLOAT16 for weight in graph.initializer)
        rounds = bool(ops & ONNX_INTEGER) or any(op.startswith("QLinear") for op in ops)
    else:
        with readable(path):
            graph = read_tflite(path).Subgraphs(0)
            rounds = _computes_integers(graph)
            types = {graph.Tensors(number).Type() for number in range(graph.TensorsLength())}
            halves = TFLITE_FLOAT16 in types
    if rounds:
        return "int8"
    return "fp16" if halves else "fp32"


def _computes_integers(graph: Any) -> bool:
    """Return whether an operator of a TFLite graph computes quantised integers."""
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        for place in range(operator.OutputsLength()):
            tensor = graph.Tensors(operator.Outputs(place))
            quantization = tensor.Quantization()
            scales = 0 if quantization is None else quantization.ScaleLength()
            if tensor.Type() in TFLITE_INTEGERS and scales:
                return True
    return False
