"""Writes the compiler's graph as ONNX; activations are nodes, which the runtime fuses itself."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatchmethod
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.export.nodes import (
    INPUT,
    OUTPUT,
    Activation,
    Arithmetic,
    Concat,
    Conv,
    Flatten,
    Graph,
    Linear,
    Node,
    Pool,
    Slice,
    WindowPool,
    Zeros,
)


def write_onnx(
    graph: Graph,
    path: Path,
    *,
    opset: int = 17,
    ir_version: int = 9,
    notes: Mapping[str, bytes] | None = None,
) -> None:
    """Write and check a model with input ``images`` ``[1, C, H, W]`` and output ``logits``.

    The same graph gives the same bytes. ``notes`` (UTF-8) become metadata.
    """
    import onnx
    from onnx import helper

    writer = _Writer()
    for node in graph.nodes:
        writer.write(node)
    images = helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, (1, *graph.input_shape))
    logits = helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, graph.output_shape)
    body = helper.make_graph(writer.nodes, "hwnas", [images], [logits], writer.weights)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        body, opset_imports=opsets, ir_version=ir_version, producer_name="hwnas"
    )
    helper.set_model_props(model, {name: said.decode() for name, said in (notes or {}).items()})
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Collects ONNX nodes and weights; a value is called as in the graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._known: set[str] = set()

    @singledispatchmethod
    def write(self, node: Node) -> None:
        raise TypeError(f"no way to write {type(node).__name__} as ONNX")

    @write.register
    def _conv(self, node: Conv) -> None:
        vertical, horizontal = node.padding
        inputs = (
            *node.inputs,
            self._weight(f"{node.name}.weight", node.weight),
            self._weight(f"{node.name}.bias", node.bias),
        )
        self._fusing(
            node,
            "Conv",
            inputs,
            kernel_shape=node.weight.shape[2:],
            strides=node.stride,
            pads=(vertical, horizontal, vertical, horizontal),
            dilations=node.dilation,
            group=len(node.weight) if node.depthwise else 1,
        )

    @write.register
    def _linear(self, node: Linear) -> None:
        inputs = (
            *node.inputs,
            self._weight(f"{node.name}.weight", node.weight),
            self._weight(f"{node.name}.bias", node.bias),
        )
        self._fusing(node, "Gemm", inputs, transB=1)

    @write.register
    def _arithmetic(self, node: Arithmetic) -> None:
        self._fusing(node, {"add": "Add", "mul": "Mul"}[node.op], node.inputs)

    @write.register
    def _activation(self, node: Activation) -> None:
        self._activate(node.op, node.inputs[0], node.name)

    @write.register
    def _pool(self, node: Pool) -> None:
        if len(node.shape) == 4:
            self._add("GlobalAveragePool", node.inputs, node.name)
        else:
            self._add("GlobalAveragePool", node.inputs, f"{node.name}.pooled")
            self._add("Flatten", (f"{node.name}.pooled",), node.name)

    @write.register
    def _flatten(self, node: Flatten) -> None:
        self._add("Flatten", node.inputs, node.name)

    @write.register
    def _window_pool(self, node: WindowPool) -> None:
        vertical, horizontal = node.padding
        exclusive: dict[str, Any] = {} if node.op == "max" else {"count_include_pad": 0}
        self._add(
            {"max": "MaxPool", "mean": "AveragePool"}[node.op],
            node.inputs,
            node.name,
            kernel_shape=node.size,
            strides=node.stride,
            pads=(vertical, horizontal, vertical, horizontal),
            **exclusive,
        )

    @write.register
    def _slice(self, node: Slice) -> None:
        largest = np.iinfo(np.int64).max
        bounds = {"begin": node.begin, "end": (largest, largest), "axes": (2, 3)}
        inputs = [
            self._weight(f"{node.name}.{what}", np.array(values, np.int64))
            for what, values in bounds.items()
        ]
        self._add("Slice", (*node.inputs, *inputs), node.name)

    @write.register
    def _concat(self, node: Concat) -> None:
        self._add("Concat", node.inputs, node.name, axis=1)

    @write.register
    def _zeros(self, node: Zeros) -> None:
        from onnx import numpy_helper

        self.weights.append(numpy_helper.from_array(np.zeros(node.shape, np.float32), node.name))

    def _fusing(
        self, node: Conv | Linear | Arithmetic, op: str, inputs: tuple[str, ...], **attributes: Any
    ) -> None:
        if node.fused is None:
            self._add(op, inputs, node.name, **attributes)
        else:
            self._add(op, inputs, f"{node.name}.before", **attributes)
            self._activate(node.fused, f"{node.name}.before", node.name)

    def _activate(self, op: str, value: str, output: str) -> None:
        if op == "relu6":
            low = self._weight("zero", np.float32(0))
            self._add("Clip", (value, low, self._weight("six", np.float32(6))), output)
        elif op == "hardsigmoid":
            self._add("HardSigmoid", (value,), output, alpha=1 / 6, beta=0.5)
        else:
            ops = {"relu": "Relu", "hardswish": "HardSwish", "sigmoid": "Sigmoid"}
            self._add(ops[op], (value,), output)

    def _add(self, op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))

    def _weight(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        name = f"{name}:constant"
        if name not in self._known:
            self._known.add(name)
            values = np.ascontiguousarray(values).reshape(np.shape(values))
            self.weights.append(numpy_helper.from_array(values, name))
        return name
