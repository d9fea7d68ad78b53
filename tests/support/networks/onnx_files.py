"""Small ONNX files: operators with their settings, written with `onnx.helper`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from hwnas.export.onnx_reader.network import OnnxNetwork
from hwnas.export.verification.metrics import relative_error

Constants = dict[str, Any]


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    shape: Sequence[int | str],
    constants: Constants | None = None,
    *,
    opset: int = 17,
    outputs: Sequence[str] = ("y",),
    **fields: Any,
) -> Path:
    """Write a model of ``nodes`` from input ``x`` to ``outputs``; return its path."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(v), name) for name, v in (constants or {}).items()],
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    domains = {node.domain for node in nodes} - {""}
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, **fields), path)
    return path


def one_node(
    path: Path, op: str, shape: Sequence[int], *operands: Any, opset: int = 17, **attributes: Any
) -> Path:
    """Write a model of one operator, whose operands behind ``x`` are constants; None: left out.

    With ``x_at`` the input is that operand.
    """
    place, outputs = attributes.pop("x_at", 0), attributes.pop("outputs", ["y"])
    constants = {f"c{n}": value for n, value in enumerate(operands) if value is not None}
    names = [f"c{n}" if value is not None else "" for n, value in enumerate(operands)]
    names.insert(place, "x")
    domain, _, kind = op.rpartition(".")
    node = helper.make_node(kind, names, outputs, name="the_node", domain=domain, **attributes)
    return save(path, [node], shape, constants, opset=opset)


class Case(NamedTuple):
    """An operator with its operands and attributes, and the shape of its input."""

    op: str
    operands: tuple[Any, ...]
    shape: tuple[int, ...]
    opset: int
    attributes: dict[str, Any]

    def write(self, path: Path) -> Path:
        """Write the model of one node; return its path."""
        attributes = dict(self.attributes)
        return one_node(path, self.op, self.shape, *self.operands, opset=self.opset, **attributes)


def case(
    op: str,
    *operands: Any,
    shape: tuple[int, ...] = (1, 4, 9, 10),
    opset: int = 17,
    **attributes: Any,
) -> Any:
    """Return a test parameter with a readable id; a tuple of sizes means an operand of noise in
    that shape."""
    rng = np.random.default_rng(len(operands))
    arrays = tuple(
        rng.standard_normal(operand).astype(np.float32) if isinstance(operand, tuple) else operand
        for operand in operands
    )
    settings = "-".join(f"{name}={value}" for name, value in attributes.items())
    return pytest.param(
        Case(op, arrays, shape, opset, attributes), id=f"{op}-{settings}-{opset}".replace(" ", "")
    )


def noise(shape: Sequence[int], seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def in_onnxruntime(path: Path, *inputs: Any) -> list[Any]:
    """Return the outputs of a file in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [tensor.name for tensor in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def difference(path: Path, shape: Sequence[int]) -> float:
    """Return the relative error of the read network in PyTorch beside ONNX Runtime."""
    image = noise(shape)
    [expected] = in_onnxruntime(path, image)
    with torch.no_grad():
        outputs = OnnxNetwork(path)(torch.from_numpy(image)).numpy()
    assert outputs.shape == expected.shape
    return relative_error(outputs, expected)
