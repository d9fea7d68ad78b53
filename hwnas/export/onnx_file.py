"""An ONNX file in the making: operators and constants by name, checked when packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

BATCH = "batch"
"""What a free first axis is called."""


class OnnxFile:
    """One graph, built in order."""

    def __init__(self, opset: int, dynamic_batch: bool) -> None:
        self.opset, self.dynamic_batch = opset, dynamic_batch
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.known: set[str] = set()
        """Names of the constants."""
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Of the graph's values, with a batch of 1."""

    def add(self, op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def constant(self, name: str, values: Any) -> str:
        """Add a constant, once: a second one of the same name is the first."""
        return self.value(f"{name}:constant", values)

    def value(self, name: str, values: Any) -> str:
        """Add a constant that is called ``name``."""
        from onnx import numpy_helper

        if name not in self.known:
            self.known.add(name)
            values = np.ascontiguousarray(values).reshape(np.shape(values))
            self.weights.append(numpy_helper.from_array(values, name))
        return name

    def packed(
        self,
        names: tuple[str, str],
        shapes: tuple[tuple[int, ...], tuple[int, ...]],
        ir_version: int,
        notes: Mapping[str, bytes],
    ) -> bytes:
        """Return the checked file; ``names`` and ``shapes`` are of its input and output."""
        import onnx
        from onnx import helper

        ends = [
            helper.make_tensor_value_info(
                name,
                onnx.TensorProto.FLOAT,
                (BATCH, *shape[1:]) if self.dynamic_batch else shape,
            )
            for name, shape in zip(names, shapes, strict=True)
        ]
        body = helper.make_graph(self.nodes, "hwnas", ends[:1], ends[1:], self.weights)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            body,
            opset_imports=opsets,
            ir_version=max(ir_version, helper.find_min_ir_version_for(opsets)),
            producer_name="hwnas",
        )
        helper.set_model_props(model, {name: said.decode() for name, said in notes.items()})
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString(deterministic=True)
