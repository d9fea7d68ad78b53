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
        self,
        graph: Arranged,
        opset: int,
        dynamic_batch: bool,
        half: bool = False,
        resized: Arranged | None = None,
    ) -> None:
        """``resized`` is the same graph at another height and width, if these are dynamic."""
        self.half = half
        self.opset, self.dynamic_batch = opset, dynamic_batch
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        """Values of the constants, by name."""
        self.shapes = shapes_of(graph)
        """Shapes of the graph's values, with a batch of 1."""
        self.resized = None if resized is None else shapes_of(resized)
        """Their shapes at another height and width, if these are dynamic."""

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

    def is_free(self, name: str, axis: int) -> bool:
        """Return whether the size of an axis depends on the size of the image."""
        return self.resized is not None and self.shapes[name][axis] != self.resized[name][axis]

    def written(self) -> list[str]:
        """Return the names of the inputs, and of the values of the operators so far, in order."""
        given = {name for node in self.nodes for name in node.output}
        given.update(spec.name for spec in self.inputs)
        return [name for name in self.shapes if name in given]

    def sizes(self, name: str, axis: int) -> tuple[int, ...]:
        """Return the size of an axis, and that at another height and width if they are dynamic."""
        others = () if self.resized is None else (self.resized[name][axis],)
        return (self.shapes[name][axis], *others)

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

    def _axis_name(self, name: str, axis: int) -> str:
        """Return the name of a free axis: that of the image if it has the image's size."""
        for spec in self.inputs:
            if len(spec.shape) == 4 and self.is_free(spec.name, 2):
                for place, title in ((2, "height"), (3, "width")):
                    if self.sizes(spec.name, place) == self.sizes(name, axis):
                        return title
        return f"{name}_{axis}"

    def _end(self, spec: TensorSpec) -> Any:
        """Return an input or output of the file."""
        from onnx import TensorProto, helper

        shape: tuple[int | str, ...] = spec.shape
        if self.dynamic_batch and shape and spec.name not in self.initializers:
            shape = (BATCH_AXIS, *shape[1:])
        if self.resized is not None:
            shape = tuple(
                self._axis_name(spec.name, axis) if self.is_free(spec.name, axis) else size
                for axis, size in enumerate(shape)
            )
        return helper.make_tensor_value_info(
            spec.name, TensorProto.DataType.Value(onnx_type(spec.dtype)), shape
        )


def shapes_of(graph: Arranged) -> dict[str, tuple[int, ...]]:
    return {
        **{spec.name: spec.shape for spec in graph.inputs},
        **{node.name: node.shape for node in graph.nodes},
    }


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
