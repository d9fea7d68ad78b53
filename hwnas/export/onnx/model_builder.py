"""An ONNX model under construction: operators and constants by name, checked when serialised."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.export.emitters import Emitters
from hwnas.export.graph.nodes import DType, Node, TensorSpec
from hwnas.export.layout.arrange import Arranged
from hwnas.export.onnx.wire import serialised
from hwnas.export.stored_weights import WeightOwners, fits_half, int8_weight, is_large

BATCH_AXIS = "batch"
"""Name of a dynamic first axis."""
CHECKED_BYTES = 1024
"""Largest constant whose values ONNX's shape inference gets; those that state shapes are smaller.
"""
FLOAT, INT64 = 1, 7
"""The schema's ``TensorProto.FLOAT`` and ``INT64``."""


class OnnxBuilder:
    """Collects the operators of one graph, in order; values keep the names of the graph."""

    def __init__(
        self,
        graph: Arranged,
        opset: int,
        dynamic_batch: bool,
        precision: Precision = "fp32",
        resized: Arranged | None = None,
    ) -> None:
        """``resized`` is the same graph at another height and width, if these are dynamic."""
        self.precision = precision
        self.opset, self.dynamic_batch = opset, dynamic_batch
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.nodes: list[Any] = []
        self._given: set[str] = set()
        self.owners = WeightOwners()
        self._weight_names: dict[str, str] = {}
        """Values of the weights, by the node that they were written for."""
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
        self._given.update(outputs)

    def constant(self, name: str, values: Any) -> str:
        """Add a constant once: a later one of the same name refers to the first."""
        return self.value(f"{name}:constant", values)

    def node_constant(self, node: Node, name: str, values: Any) -> str:
        """Add a constant that belongs to ``node``, such as its bias."""
        return self.constant(f"{node.name}.{name}", values)

    def weight(self, node: Node, values: Any, axis: int) -> str:
        """Add the weight of ``node`` in the bits that the precision of the file states.

        ``axis`` is that of its output channels. ONNX Runtime computes the casts and products of
        constants when it opens a file; a ``DequantizeLinear`` it would compute in every run. Equal
        weights of several nodes are written once.
        """
        owner = self.owners.owner(node.name, values, axis)
        if owner not in self._weight_names:
            self._weight_names[owner] = self._stored(owner, values, axis)
        return self._weight_names[owner]

    def _stored(self, name: str, values: Any, axis: int) -> str:
        if self.precision == "fp16" and fits_half(values):
            half = self.constant(f"{name}.half", values.astype(np.float16))
            self.add("Cast", (half,), f"{name}.weight", to=FLOAT)
            return f"{name}.weight"
        if self.precision in ("int8-weights", "int8-dynamic") and is_large(values):
            levels, scale = int8_weight(values, axis)
            stored = self.constant(f"{name}.int8", levels)
            self.add("Cast", (stored,), f"{name}.levels", to=FLOAT)
            others = [place for place in range(values.ndim) if place != axis]
            scale = self.constant(f"{name}.scale", np.expand_dims(scale, others))
            self.add("Mul", (f"{name}.levels", scale), f"{name}.weight")
            return f"{name}.weight"
        return self.constant(f"{name}.weight", values)

    def is_given(self, name: str) -> bool:
        """Return whether an operator gives ``name`` already."""
        return name in self._given

    def before(self, name: str, ends: Collection[str]) -> list[Any]:
        """Return the operators that give ``name``, back to those of the kinds ``ends``."""
        makers = {output: node for node in self.nodes for output in node.output}
        reached, names = {}, [name]
        while names:
            node = makers.get(names.pop())
            if node is not None and node.op_type not in ends and node.name not in reached:
                reached[node.name] = node
                names += node.input
        return list(reached.values())

    def is_free(self, name: str, axis: int) -> bool:
        """Return whether the size of an axis depends on the size of the image."""
        return self.resized is not None and self.shapes[name][axis] != self.resized[name][axis]

    def written(self) -> list[str]:
        """Return the names of the inputs, and of the values of the operators so far, in order."""
        given = self._given.union(spec.name for spec in self.inputs)
        return [name for name in self.shapes if name in given]

    def sizes(self, name: str, axis: int) -> tuple[int, ...]:
        """Return the size of an axis, and that at another height and width if they are dynamic."""
        others = () if self.resized is None else (self.resized[name][axis],)
        return (self.shapes[name][axis], *others)

    def value(self, name: str, values: Any) -> str:
        """Add a constant under exactly this name."""
        self.initializers.setdefault(name, values)
        return name

    def serialise(self, ir_version: int, metadata: Mapping[str, bytes]) -> Iterator[Any]:
        """Yield the file's bytes in pieces, once ONNX's checker and shape inference accept it."""
        from onnx import ModelProto, helper

        inputs, outputs = (list(map(self._end, ends)) for ends in (self.inputs, self.outputs))
        graph = helper.make_graph(self.nodes, "hwnas", inputs, outputs)
        opsets = [helper.make_opsetid("", self.opset)]
        model = ModelProto(
            opset_import=opsets,
            ir_version=max(ir_version, helper.find_min_ir_version_for(opsets)),
            producer_name="hwnas",
        )
        helper.set_model_props(model, {name: text.decode() for name, text in metadata.items()})
        self._check(model, graph)
        yield from serialised(model, graph, self.initializers)

    def _check(self, model: Any, graph: Any) -> None:
        """Check the model with its large weights as inputs, which copies none of them."""
        import onnx
        from onnx import ModelProto, helper, numpy_helper

        checked = ModelProto()
        checked.CopyFrom(model)
        checked.graph.CopyFrom(graph)
        for name, values in self.initializers.items():
            if values.nbytes <= CHECKED_BYTES:
                checked.graph.initializer.append(numpy_helper.from_array(values, name))
            else:
                dtype = helper.np_dtype_to_tensor_dtype(values.dtype)
                checked.graph.input.append(helper.make_tensor_value_info(name, dtype, values.shape))
        onnx.checker.check_model(checked, full_check=True)

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
