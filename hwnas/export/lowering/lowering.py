"""The lowering of a recorded network: the graph under construction, and the readers of each
value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn, get_args

import msgspec
import numpy as np
import torch
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.export.graph.decompose import FALL_BACK
from hwnas.export.graph.nodes import (
    Cast,
    Constant,
    DType,
    Graph,
    Node,
    Reshape,
    TensorSpec,
)
from hwnas.export.graph.recording import Call, Recording, Shape, Value
from hwnas.export.graph.weights import to_array

Lower = Callable[["Lowering", Call], None]
LARGEST = float(np.finfo(np.float32).max)


class Lowering:
    """Lowers calls, in order, to nodes of the compiler's graph."""

    def __init__(
        self, recording: Recording, table: Mapping[str, Lower], inputs: Sequence[TensorSpec]
    ) -> None:
        self.recording, self.table = recording, table
        self.calls = _needed(recording)
        self.inputs = {spec.name: TensorSpec(spec.name, spec.shape, spec.dtype) for spec in inputs}
        self.nodes: dict[str, Node] = {}
        self.values: dict[Value, str] = {}
        """Name of the node, or of the input, that has each value."""
        self.sources: dict[str, Value] = {}
        """Value of each node; steps inside a call have none."""
        self.reads: Counter[str] = Counter()
        """Number of times that the nodes read each name."""
        self.pending: Counter[str] = Counter()
        """Number of times that the outputs, and calls that are not lowered yet, read each name."""
        self.waiting: Counter[Value] = Counter(
            value for call in self.calls for value in call.operands
        )
        self.waiting.update(_returned(recording))
        for spec, value in zip(self.inputs.values(), recording.inputs, strict=True):
            self.give(value, self._as_floats(spec))
        self.activated: dict[tuple[str, str], str] = {}
        """Names that are an activation of another name, by ``(op, name)``."""

    def lower(self) -> Graph:
        """Lower everything; called once."""
        for call in self.calls:
            self._lower(call)
            for value in call.operands:
                self.pending[self.values[value]] -= 1
        outputs = {
            self._output(name, value): name for name, value in self.recording.outputs.items()
        }
        if all(isinstance(self.nodes[node], Constant) for node in outputs):
            raise ExportError("the network returns a constant: there is nothing to compile")
        specs = tuple(
            TensorSpec(name, self.nodes[node].shape, getattr(self.nodes[node], "dtype", "float32"))
            for node, name in outputs.items()
        )
        nodes = _renamed(_reachable(self.nodes, outputs), outputs)
        self.sources = {outputs.get(name, name): v for name, v in self.sources.items()}
        return Graph(tuple(self.inputs.values()), nodes, specs)

    def _lower(self, call: Call) -> None:
        try:
            self.table[call.op](self, call)
        except ExportError:
            raise
        except Exception as error:  # a form of the operation that its lowering does not expect
            self.refuse(call, f"cannot be lowered in this form ({type(error).__name__}: {error})")

    def emit(
        self, call: Call, kind: type[Node], inputs: tuple[str, ...], index: int = 0, **fields: Any
    ) -> None:
        """Add a node of ``kind`` that gives result ``index`` of ``call``."""
        value = call.results[index]
        name = self._add(self.call_name(call), kind, inputs, value.shape, fields)
        self.give(value, name)

    def step(
        self,
        call: Call,
        suffix: str,
        kind: type[Node],
        inputs: tuple[str, ...],
        shape: Shape,
        **fields: Any,
    ) -> str:
        """Add a node for a part of ``call`` and return its name, which ends in ``suffix``."""
        return self._add(f"{self.call_name(call)}.{suffix}", kind, inputs, shape, fields)

    def give(self, value: Value, name: str) -> None:
        """Let ``name`` be the node that gives ``value``."""
        self.values[value] = name
        self.pending[name] += self.waiting[value]
        if name in self.nodes and self.nodes[name].shape == value.shape:
            self.sources[name] = value

    def become(self, call: Call, name: str) -> None:
        """Let ``name`` give the result of ``call``, under its shape."""
        if self.shape(name) != call.result.shape:
            self.emit(call, Reshape, (name,))
        else:
            self.give(call.result, name)

    def finish(self, call: Call, name: str) -> None:
        """Let the last step of ``call`` give its result, and carry its name."""
        base = self.call_name(call)
        fresh = name.startswith(f"{base}.") and not self.reads[name] and not self.pending[name]
        if fresh and self.shape(name) == call.result.shape:
            node = self.nodes.pop(name)
            self.reads.subtract(node.inputs)
            fields = {field: getattr(node, field) for field in node.__struct_fields__[3:]}
            name = self._add(base, type(node), node.inputs, node.shape, fields)
        self.become(call, name)

    def drop(self, name: str) -> None:
        """Remove a node whose only reader computes it as well."""
        for source in self.nodes.pop(name).inputs:
            self.reads[source] -= 1
        self.sources.pop(name, None)

    def replace(self, name: str, **fields: Any) -> None:
        self.nodes[name] = msgspec.structs.replace(self.nodes[name], **fields)

    def operand(self, call: Call, argument: str = "self") -> str:
        """Return the name of the value of an argument; a constant becomes a node."""
        return self.name(call, call.args[argument])

    def name(self, call: Call, argument: Any) -> str:
        """Return the name of a value, or of a node for a constant."""
        if isinstance(argument, Value):
            return self.values[argument]
        array = to_array(torch.as_tensor(argument))
        return self.constant_node(call, array)

    def constant_node(self, call: Call, array: Any) -> str:
        """Add a constant; infinities become the largest numbers."""
        values = np.clip(np.asarray(array, np.float32), -LARGEST, LARGEST)
        return self.step(call, "constant", Constant, (), values.shape, value=values)

    def constant(self, call: Call, argument: str) -> Tensor | None:
        """Return a tensor, or None if it is absent. Refuses one that depends on the image."""
        value = call.args.get(argument)
        if isinstance(value, Value):
            self.refuse(call, f"with a {argument} that depends on the image is not supported")
        return value

    def has_one_reader(self, name: str) -> bool:
        return self.reads[name] + self.pending[name] == 1

    def shape(self, name: str) -> Shape:
        return self.inputs[name].shape if name in self.inputs else self.nodes[name].shape

    def refuse(self, call: Call, why: str) -> NoReturn:
        """Raise the error that names the module's path, the operation, and the reason."""
        place = call.path or "the network"
        raise ExportError(f"{place}: aten.{call.op} {why}; {FALL_BACK}")

    def call_name(self, call: Call) -> str:
        if call.is_layer and call.path:
            return call.path
        return f"{call.path}.{call.op}" if call.path else call.op

    def _add(
        self,
        base: str,
        kind: type[Node],
        inputs: tuple[str, ...],
        shape: Shape,
        fields: dict[str, Any],
    ) -> str:
        name, number = base, 1
        while name in self.nodes or name in self.inputs or name in self.recording.outputs:
            number += 1
            name = f"{base}_{number}"
        self.nodes[name] = kind(name=name, inputs=inputs, shape=tuple(shape), **fields)
        self.reads.update(inputs)
        return name

    def _as_floats(self, spec: TensorSpec) -> str:
        """Return the name of an input as float32."""
        if spec.dtype == "float32":
            return spec.name
        return self._add(f"{spec.name}.floats", Cast, (spec.name,), spec.shape, {})

    def _output(self, name: str, value: Value | Tensor) -> str:
        """Return a node that gives an output and nothing else."""
        if isinstance(value, Value):
            node, dtype = self.values[value], value.dtype
        else:
            array, dtype = to_array(value), value.dtype
            node = self._add(name, Constant, (), array.shape, {"value": array})
        shape = self.shape(node)
        if not dtype.is_floating_point:
            return self._add(name, Cast, (node,), shape, {"dtype": _integer(name, dtype)})
        single = len(self.recording.outputs) == 1
        if single and node in self.inputs:
            raise ExportError("the network returns its input: there is nothing to compile")
        if single and len(shape) < 2:  # squeeze() takes a batch of one away, not that of several
            shape = (1, *(shape or (1,)))
        returned = [leaf for leaf in _returned(self.recording) if self.values[leaf] == node]
        if shape != self.shape(node) or node in self.inputs or len(returned) > 1:
            return self._add(f"{node}.returned", Reshape, (node,), shape, {})
        return node


def _needed(recording: Recording) -> list[Call]:
    """Return the calls that the outputs depend on."""
    wanted, calls = set(_returned(recording)), []
    for call in reversed(recording.calls):
        if not wanted.isdisjoint(call.results):
            calls.append(call)
            wanted.update(call.operands)
    return calls[::-1]


def _returned(recording: Recording) -> list[Value]:
    return [output for output in recording.outputs.values() if isinstance(output, Value)]


def _integer(name: str, dtype: torch.dtype) -> DType:
    title = str(dtype).removeprefix("torch.")
    if title not in get_args(DType):
        raise ExportError(
            f"the output {name} has the type {title}; expected {', '.join(get_args(DType))}"
        )
    return title  # type: ignore[return-value]


def _reachable(nodes: Mapping[str, Node], last: Iterable[str]) -> list[Node]:
    wanted = set(last)
    for node in reversed(nodes.values()):  # type: ignore[call-overload]
        if node.name in wanted:
            wanted.update(node.inputs)
    return [node for node in nodes.values() if node.name in wanted]


def _renamed(nodes: list[Node], outputs: Mapping[str, str]) -> tuple[Node, ...]:
    return tuple(
        msgspec.structs.replace(
            node,
            name=outputs.get(node.name, node.name),
            inputs=tuple(outputs.get(name, name) for name in node.inputs),
        )
        for node in nodes
    )
