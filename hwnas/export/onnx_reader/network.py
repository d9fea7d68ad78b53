"""An ONNX file as a PyTorch module: the compiler traces it like a user's own network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, defs, helper
from torch import Tensor, nn

from hwnas.errors import ExportError, InvalidFile, UnknownName
from hwnas.export.graph.decompose import FALL_BACK
from hwnas.export.graph.modules import ForeignModule
from hwnas.export.graph.nodes import TensorSpec
from hwnas.export.onnx_reader.element_types import DTYPES, constant_tensor, type_name
from hwnas.export.onnx_reader.file import DOMAINS, opset_versions, read_model
from hwnas.export.onnx_reader.node import OnnxNode
from hwnas.export.onnx_reader.noise import comparable_samples
from hwnas.export.onnx_reader.ops.constants import NOT_INT8, QUANTISED
from hwnas.export.onnx_reader.patterns import simplified
from hwnas.export.onnx_reader.reference import Reference
from hwnas.export.onnx_reader.steps import Branch, Graph, Repetition, Step, Values, run
from hwnas.export.onnx_reader.table import READS

LEAVE_OUT = (
    "leave it out with onnx.utils.extract_model, or compile the network that the file was made from"
)
"""What a user can do about an operator that is not supported."""


class OnnxInput(NamedTuple):
    """An input that a file needs."""

    name: str
    kind: int
    """Element type, a number of ONNX."""
    shape: tuple[int | None, ...] | None
    """None for an axis that is free; None alone if the file states no shape."""
    free: tuple[str, ...] = ()
    """Name of each axis, empty if it is not free or has none."""


class OnnxNetwork(ForeignModule):
    """The network of an ONNX file; its ``forward`` takes the inputs in the order of the file."""

    def __init__(self, path: Path) -> None:
        """Read ``path``. Raises `InvalidFile`, or `ExportError` for an operator of no reader."""
        super().__init__()
        self.path = path
        model = read_model(path)
        self.loader = _Loader(path, self, opset_versions(model))
        self.constants = self.loader.constants(model.graph)
        self.inputs = _inputs(path, model, self.constants)
        self.output_names = [value.name for value in model.graph.output]
        self.steps = self.loader.steps(model.graph, self.output_names)
        self.reference = Reference(path, model)
        self.source = f"ONNX Runtime on {path}"

    def forward(self, *inputs: Tensor) -> Any:
        named = zip((value.name for value in self.inputs), inputs, strict=True)
        values: Values = {**self.constants, **dict(named)}
        run(self.steps, values)
        missing = [name for name in self.output_names if name not in values]
        if missing:
            raise ExportError(f"{self.path}: no node computes the output {missing[0]!r}")
        outputs = tuple(values[name] for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def reference_outputs(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return self.reference.outputs(inputs, [value.name for value in self.inputs])

    def reference_batch(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return self.reference.batch(inputs, [value.name for value in self.inputs])

    def noise(self, inputs: Sequence[TensorSpec], count: int) -> list[np.ndarray]:
        """Return noise on which ONNX Runtime agrees with itself, at most ``count`` values."""
        names = [value.name for value in self.inputs]
        samples = comparable_samples(self.reference, names, inputs, count, self._table_rows())
        return [np.stack(arrays) for arrays in zip(*samples, strict=True)]

    def explained(self, message: str) -> str:
        """Name the file, the node and its operator where the compiler names a module."""
        message = message.removesuffix(f"; {FALL_BACK}").replace("PyTorch", self.source)
        place, _, rest = message.partition(": ")
        step = dict(self.named_children()).get(place)
        if isinstance(step, Step):
            return f"{self.path}: node {step.node.name!r} ({step.node.op}): {rest}; {LEAVE_OUT}"
        return message if str(self.path) in message else f"{self.path}: {message}"

    def _table_rows(self) -> int:
        """Return the number of rows of the smallest table that a node looks up; at least 2."""
        tables = [self.constants.get(step.reads[0]) for step in self.steps
                  if step.node.op == "Gather" and not step.node.integer("axis", 0)]  # fmt: skip
        rows = [len(table) for table in tables if table is not None and table.dim() == 2]
        return min(rows, default=2)


class _Loader:
    """Makes steps of the nodes of a file."""

    def __init__(self, path: Path, network: nn.Module, versions: Mapping[str, int]) -> None:
        self.path, self.network, self.versions = path, network, versions

    def constants(self, graph: GraphProto) -> Values:
        if graph.sparse_initializer:
            raise InvalidFile(str(self.path), "has sparse constants, which are not supported")
        return {tensor.name: constant_tensor(tensor, self.path) for tensor in graph.initializer}

    def steps(self, graph: GraphProto, outputs: Iterable[str]) -> list[Step]:
        """Return the steps that ``outputs`` need."""
        initial = {tensor.name: tensor for tensor in graph.initializer}
        nodes = _needed(simplified(list(graph.node), initial), set(outputs))
        used = {name for node in nodes for name in _reads(node)} | set(outputs)
        return [self._step(node, number, used) for number, node in enumerate(nodes)]

    def _step(self, proto: NodeProto, number: int, used: set[str]) -> Step:
        domain = "" if proto.domain in DOMAINS else proto.domain
        op = f"{domain}.{proto.op_type}" if domain else proto.op_type
        name = proto.name or f"{proto.op_type}_{number}"
        outputs = [place for place, output in enumerate(proto.output, 1) if output in used]
        attributes = {entry.name: self._attribute(entry) for entry in proto.attribute}
        version = self.versions.get(domain, 1)
        node = OnnxNode(name, op, version, attributes, max(outputs, default=1), len(proto.output))
        step = self._made(node, proto)
        self.network.add_module(self._key(name), step)
        return step

    def _made(self, node: OnnxNode, proto: NodeProto) -> Step:
        if node.op == "If":
            branches = {True: "then_branch", False: "else_branch"}
            return Branch(
                node, proto, {flag: node.attributes[name] for flag, name in branches.items()}
            )
        if node.op == "Loop":
            return Repetition(node, proto, node.attributes["body"])
        if node.op in QUANTISED or node.op.startswith("com.microsoft.QLinear"):
            node.refuse(NOT_INT8)
        if node.op not in READS:
            node.refuse(_unknown(node.op))
        return Step(node, READS[node.op], proto)

    def _attribute(self, entry: AttributeProto) -> Any:
        if entry.type == AttributeProto.TENSOR:
            return constant_tensor(entry.t, self.path)
        if entry.type == AttributeProto.GRAPH:
            outputs = [value.name for value in entry.g.output]
            inputs = [value.name for value in entry.g.input]
            return Graph(self.constants(entry.g), inputs, self.steps(entry.g, outputs), outputs)
        return helper.get_attribute_value(entry)

    def _key(self, name: str) -> str:
        """Return a free name of a submodule: they may have no dots."""
        base = key = name.replace(".", "_")
        number = 1
        while hasattr(self.network, key) or key in self.network._modules:
            number += 1
            key = f"{base}_{number}"
        return key


def _unknown(op: str) -> str:
    if "." in op:
        return f"is of a domain other than ONNX's, and not supported; {LEAVE_OUT}"
    if op.startswith("Random") or op == "Multinomial":
        return f"draws random numbers; {LEAVE_OUT}"
    if defs.has(op):
        return f"is not supported; {LEAVE_OUT}"
    near = str(UnknownName("operator", op, READS)).partition(", did you mean ")[2].partition("?")[0]
    return f"is no operator of ONNX{f'; is {near} meant?' if near else ''}"


def _inputs(path: Path, model: ModelProto, constants: Values) -> list[OnnxInput]:
    """Return the inputs without those that have a constant as default, as older files state."""
    inputs: list[OnnxInput] = []
    for value in model.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        if not value.type.HasField("tensor_type") or tensor.elem_type not in DTYPES:
            kind = type_name(tensor.elem_type) if tensor.elem_type else "another kind"
            raise ExportError(f"input {value.name!r} is of {kind}, which is not supported")
        shape, free = None, tuple(dim.dim_param for dim in tensor.shape.dim)
        if tensor.HasField("shape"):
            shape = tuple(
                dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                for dim in tensor.shape.dim
            )
        inputs.append(OnnxInput(value.name, tensor.elem_type, shape, free))
    return inputs


def _needed(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Return the nodes that ``outputs`` depend on, in their order."""
    wanted, needed = set(outputs), list[NodeProto]()
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            needed.append(node)
            wanted |= _reads(node)
    return needed[::-1]


def _reads(node: NodeProto) -> set[str]:
    """Return the values that a node reads, also in the graphs inside it."""
    names = set(node.input)
    for entry in node.attribute:
        for inner in entry.g.node:
            names |= _reads(inner)
        names |= {value.name for value in entry.g.output}
    return names
