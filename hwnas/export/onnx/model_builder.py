"""An ONNX file in the making: operators and constants by name, checked when packed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BATCH = "batch"
"""What a free first axis is called."""


class OnnxFile:
    """One graph, built in order."""

    def __init__(self, opset: int, dynamic_batch: bool) -> None:
        self.opset, self.dynamic_batch = opset, dynamic_batch
        self.nodes: list[Any] = []
        self.known: dict[str, Any] = {}
        """The constants' values."""
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
        self.known.setdefault(name, values)
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
        body = helper.make_graph(self.nodes, "hwnas", ends[:1], ends[1:])
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            body,
            opset_imports=opsets,
            ir_version=max(ir_version, helper.find_min_ir_version_for(opsets)),
            producer_name="hwnas",
        )
        helper.set_model_props(model, {name: said.decode() for name, said in notes.items()})
        for name, values in self.known.items():  # in the model itself: they are copied once
            _put(model.graph.initializer.add(), name, values)
        data = model.SerializeToString(deterministic=True)
        onnx.checker.check_model(data, full_check=True)
        return data


def _put(tensor: Any, name: str, values: Any) -> None:
    from onnx import helper

    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    tensor.raw_data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
