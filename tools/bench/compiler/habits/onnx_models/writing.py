"""Writes ONNX models: node by node, and by ``torch.onnx.export``."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

FLOAT = TensorProto.FLOAT


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
    types: dict[str, int] | None = None,
) -> ModelProto:
    """Return a model; ``constants`` are arrays, numbers and lists of integers."""
    types = types or {}
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info(n, types.get(n, FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, FLOAT), None) for n in outputs],
        [numpy_helper.from_array(array_of(v), n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def array_of(value: Any) -> np.ndarray:
    """Return a constant; Python's integers are of 64 bits."""
    return np.asarray(value)


def floats(*shape: int) -> np.ndarray:
    return (0.4 * torch.randn(shape)).numpy()


def levels(*shape: int) -> np.ndarray:
    """Return random integers of 8 bits."""
    return torch.randint(-127, 128, shape, dtype=torch.int8).numpy()


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """Return a node; names are separated by spaces, ``-`` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def exported(network: nn.Module, *inputs: Tensor, **options: Any) -> ModelProto:
    """Return the model that ``torch.onnx.export`` writes."""
    file: Any = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), inputs, file, **options)
    return onnx.load_from_string(file.getvalue())
