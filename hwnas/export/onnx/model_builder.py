"""An ONNX model under construction: operators and constants by name, checked when serialised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hwnas.export.emitters import Emitters, fits_half
from hwnas.export.graph.nodes import DType, Node, TensorSpec
from hwnas.export.layout.arrange import Arranged

BATCH_AXIS = "batch"
"""Name of a dynamic first axis."""
FLOAT = 1
"""The schema's ``TensorProto.FLOAT``."""


class OnnxBuilder:
    """Collects the operators of one graph, in order; values keep the names of the graph."""

    def __init__(
        self, graph: Arranged, opset: int, dynamic_batch: bool, half: bool = False
    ) -> None:
        self.half = half
        self.opset, self.dynamic_batch = opset, dynamic_batch
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        """Values of the constants, by name."""
        self.shapes: dict[str, tuple[int, ...]] = {
            **{spec.name: spec.shape for spec in graph.inputs},
            **{node.name: node.shape for node in graph.nodes},
        }
        """Shapes of the graph's values, with a batch of 1."""

    def add(self, op: str, inputs: tuple[str, ...], *outputs: str, **attributes: Any) -> None:
        """Add an operator that is called like its first output."""
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))

    def constant(self, name: str, values: Any) -> str:
        """Add a constant once: a later one of the same name refers to the first."""
        return self.value(f"{name}:constant", values)

    def node_constant(self, node: Node, name: str, values: Any) -> str:
        """Add a constant that belongs to ``node``, such as its weight."""
        if self.half and name == "weight" and fits_half(values):
            half = self.constant(f"{node.name}.half", values.astype(np.float16))
            self.add("Cast", (half,), f"{node.name}.weight", to=FLOAT)
            return f"{node.name}.weight"
        return self.constant(f"{node.name}.{name}", values)

    def value(self, name: str, values: Any) -> str:
        """Add a constant under exactly this name."""
        self.initializers.setdefault(name, values)
        return name

    def serialise(self, ir_version: int, metadata: Mapping[str, bytes]) -> bytes:
        """Return the bytes of the file, after ONNX's checker and shape inference accepted it."""
        import onnx
        from onnx import helper

        inputs, outputs = (list(map(self._end, ends)) for ends in (self.inputs, self.outputs))
        body = helper.make_graph(self.nodes, "hwnas", inputs, outputs)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            body,
            opset_imports=opsets,
            ir_version=max(ir_version, helper.find_min_ir_version_for(opsets)),
            producer_name="hwnas",
        )
        helper.set_model_props(model, {name: text.decode() for name, text in metadata.items()})
        # written into the model itself, so that large weights are copied only once
        for name, values in self.initializers.items():
            _fill(model.graph.initializer.add(), name, values)
        data = model.SerializeToString(deterministic=True)
        onnx.checker.check_model(data, full_check=True)
        return data

    def _end(self, spec: TensorSpec) -> Any:
        """Return an input or output of the file."""
        from onnx import TensorProto, helper

        shape: tuple[int | str, ...] = spec.shape
        if self.dynamic_batch and shape and spec.name not in self.initializers:
            shape = (BATCH_AXIS, *shape[1:])
        return helper.make_tensor_value_info(
            spec.name, TensorProto.DataType.Value(onnx_type(spec.dtype)), shape
        )


def onnx_type(dtype: DType) -> str:
    """Return the name of a type in ONNX."""
    return "FLOAT" if dtype == "float32" else dtype.upper()


EMITTERS: Emitters[OnnxBuilder] = Emitters("ONNX")
emits = EMITTERS.emits


def _fill(tensor: Any, name: str, values: Any) -> None:
    from onnx import helper

    tensor.name, tensor.data_type = name, helper.np_dtype_to_tensor_dtype(values.dtype)
    tensor.dims.extend(values.shape)
    tensor.raw_data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
