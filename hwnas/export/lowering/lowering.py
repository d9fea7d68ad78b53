"""The lowering of a recorded network: the graph under construction, and who reads which value."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import msgspec
import numpy as np
import torch
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.export.graph.decompose import FALL_BACK
from hwnas.export.graph.nodes import INPUT, OUTPUT, Constant, Graph, Node, Reshape
from hwnas.export.graph.recording import Call, Recording, Shape, Value
from hwnas.export.graph.weights import to_array

Lower = Callable[["Lowering", Call], None]
LARGEST = float(np.finfo(np.float32).max)


class Lowering:
    """Lowers calls, in order, to nodes of the compiler's graph."""

    def __init__(self, recording: Recording, table: Mapping[str, Lower]) -> None:
        self.recording, self.table = recording, table
        self.calls = _needed(recording)
        self.nodes: dict[str, Node] = {}
        self.values: dict[Value, str] = {recording.image: INPUT}
        """Name of the node, or of the input, that gives each value."""
        self.sources: dict[str, Value] = {}
        """Value that each node gives; steps inside a call have none."""
        self.reads: Counter[str] = Counter()
        """How often the nodes read each name."""
        self.pending: Counter[str] = Counter()
        """How often calls that are not lowered yet, and the output, read each name."""
        self.waiting: Counter[Value] = Counter(
            value for call in self.calls for value in call.operands
        )
        self.waiting.update(_leaves(recording.output))
        self.pending[INPUT] = self.waiting[recording.image]
        self.activated: dict[tuple[str, str], str] = {}
        """Names that are an activation of another name, by ``(op, name)``."""

    def lower(self) -> Graph:
        """Lower everything; called once."""
        for call in self.calls:
            self._lower(call)
            for value in call.operands:
                self.pending[self.values[value]] -= 1
        last = self._output()
        nodes = _renamed(_reachable(self.nodes, last), last)
        self.sources = {OUTPUT if name == last else name: v for name, v in self.sources.items()}
        _, channels, height, width = self.recording.image.shape
        return Graph((channels, height, width), nodes)

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
        if name != INPUT and self.nodes[name].shape == value.shape:
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
        return self.recording.image.shape if name == INPUT else self.nodes[name].shape

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
        while name in self.nodes or name in (INPUT, OUTPUT):
            number += 1
            name = f"{base}_{number}"
        self.nodes[name] = kind(name=name, inputs=inputs, shape=tuple(shape), **fields)
        self.reads.update(inputs)
        return name

    def _output(self) -> str:
        output = self.recording.output
        if isinstance(output, Tensor):
            raise ExportError("the network returns a constant: there is nothing to compile")
        if not isinstance(output, Value):
            raise ExportError(f"the network returns {_described(output)}")
        name = self.values[output]
        if name == INPUT:
            raise ExportError("the network returns its input: there is nothing to compile")
        if len(output.shape) < 2:  # squeeze() takes a batch of one away, not that of several
            shape = (1, *(output.shape or (1,)))
            name = self._add(f"{name}.batch", Reshape, (name,), shape, {})
        return name


def _needed(recording: Recording) -> list[Call]:
    """Return the calls that the output depends on."""
    wanted, calls = set(_leaves(recording.output)), []
    for call in reversed(recording.calls):
        if not wanted.isdisjoint(call.results):
            calls.append(call)
            wanted.update(call.operands)
    return calls[::-1]


def _leaves(output: Any) -> list[Value]:
    if isinstance(output, Value):
        return [output]
    return [leaf for part in output for leaf in _leaves(part)] if isinstance(output, list) else []


def _described(output: Any) -> str:
    if isinstance(output, list | dict):
        kind = "several outputs" if isinstance(output, list) else "a dict"
        return f"{kind} ({len(output)}); only one tensor is supported: return it from a wrapper"
    return f"{type(output).__name__}; only one tensor is supported"


def _reachable(nodes: Mapping[str, Node], last: str) -> list[Node]:
    wanted = {last}
    for node in reversed(nodes.values()):  # type: ignore[call-overload]
        if node.name in wanted:
            wanted.update(node.inputs)
    return [node for node in nodes.values() if node.name in wanted]


def _renamed(nodes: list[Node], last: str) -> tuple[Node, ...]:
    def rename(name: str) -> str:
        return OUTPUT if name == last else name

    return tuple(
        msgspec.structs.replace(
            node, name=rename(node.name), inputs=tuple(map(rename, node.inputs))
        )
        for node in nodes
    )
