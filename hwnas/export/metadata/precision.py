"""The precision of a model file, from its operators and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.architecture.artifact import Precision
from hwnas.export.metadata.entries import read_onnx, read_tflite, readable
from hwnas.export.recipe import format_of

ONNX_DYNAMIC = {"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}
"""Operations that round values by their range in each run."""
ONNX_STATIC = {"QuantizeLinear", "ConvInteger", "MatMulInteger"}
"""Other operations that compute with 8 bits, besides those whose names begin with ``QLinear``."""

TFLITE_INTEGERS = (3, 9)
"""The schema's types ``UINT8`` and ``INT8``."""
ONNX_INTEGERS = (2, 3)
"""The same of ONNX."""
ONNX_FLOAT16, TFLITE_FLOAT16 = 10, 1
"""Floats of 16 bits in the two schemas."""
WIDENING = 6
"""The schema's operator ``DEQUANTIZE``."""


def precision_of(path: Path) -> Precision:
    """Return the precision of a file of any origin. Raises `InvalidFile`."""
    if format_of(path) == "onnx":
        return _of_onnx(read_onnx(path).graph)
    with readable(path):
        return _of_tflite(read_tflite(path))


def _of_onnx(graph: Any) -> Precision:
    ops = {node.op_type for node in graph.node}
    if ops & ONNX_DYNAMIC:
        return "int8-dynamic"
    if ops & ONNX_STATIC or any(op.startswith("QLinear") for op in ops):
        return "int8"
    if any(weight.data_type in ONNX_INTEGERS and weight.dims for weight in graph.initializer):
        return "int8-weights"
    halves = any(weight.data_type == ONNX_FLOAT16 for weight in graph.initializer)
    return "fp16" if halves else "fp32"


def _of_tflite(model: Any) -> Precision:
    graph = model.Subgraphs(0)
    if _computes_integers(graph):
        return "int8"
    types = {graph.Tensors(number).Type() for number in range(graph.TensorsLength())}
    stored = set(_int8_weights(graph))
    if stored:
        widened = set(_widened(model, graph))
        return "int8-weights" if stored <= widened else "int8-dynamic"
    return "fp16" if TFLITE_FLOAT16 in types else "fp32"


def _int8_weights(graph: Any) -> Iterator[int]:
    """Yield the numbers of the tensors of 8 bits that have a scale."""
    for number in range(graph.TensorsLength()):
        tensor = graph.Tensors(number)
        quantization = tensor.Quantization()
        if tensor.Type() in TFLITE_INTEGERS and quantization and quantization.ScaleLength():
            yield number


def _widened(model: Any, graph: Any) -> Iterator[int]:
    """Yield the numbers of the tensors that an operator turns into floats."""
    for number in range(graph.OperatorsLength()):
        operator = graph.Operators(number)
        if model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode() == WIDENING:
            yield operator.Inputs(0)


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
