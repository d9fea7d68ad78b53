"""The output of a model file: logits or probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.export.metadata.entries import read_onnx, read_tflite, readable
from hwnas.export.recipe import format_of

ONNX_COPIES = {"DequantizeLinear", "QuantizeLinear", "Identity", "Cast", "Reshape", "Flatten"}
"""Operations that copy the values of their input, in another type or shape."""

TFLITE_COPIES = {"DEQUANTIZE", "QUANTIZE", "CAST", "RESHAPE"}


def gives_probabilities(path: Path) -> bool:
    """Return whether the first output of a file is that of a softmax. Raises `InvalidFile`."""
    if format_of(path) == "onnx":
        return _last_onnx_op(read_onnx(path).graph) == "Softmax"
    with readable(path):
        return _last_tflite_op(read_tflite(path)) == "SOFTMAX"


def _last_onnx_op(graph: Any) -> str:
    """Return the operation that computes the first output, "" if it is an input or a constant."""
    nodes = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while name in nodes and nodes[name].op_type in ONNX_COPIES:
        name = nodes[name].input[0]
    return nodes[name].op_type if name in nodes else ""


def _last_tflite_op(model: Any) -> str:
    graph = model.Subgraphs(0)
    operators = {op.Outputs(0): op for op in map(graph.Operators, range(graph.OperatorsLength()))}
    tensor = graph.Outputs(0)
    while tensor in operators and _name(model, operators[tensor]) in TFLITE_COPIES:
        tensor = operators[tensor].Inputs(0)
    return _name(model, operators[tensor]) if tensor in operators else ""


def _name(model: Any, operator: Any) -> str:
    """Return the name of an operator as in the schema; old files have a shorter field for it."""
    from ai_edge_litert import schema_py_generated as schema

    code = model.OperatorCodes(operator.OpcodeIndex())
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if name.isupper()}
    return names.get(number, "")
