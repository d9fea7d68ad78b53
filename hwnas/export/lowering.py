"""The lowering of a traced network: what is computed by which value, and who uses it."""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import msgspec
from torch import fx, nn

from hwnas.errors import ExportError
from hwnas.export.nodes import INPUT, OUTPUT, Graph, Node, Slice, Zeros
from hwnas.export.ops import LOWER, OPS, in_place, known_ops, module_type, op_name

Shape = tuple[int, ...]
N = TypeVar("N", bound=Node)


class Lowering:
    """Turns traced nodes, one by one and in order, into nodes of the compiler's graph."""

    def __init__(
        self, module: nn.Module, traced: fx.Graph, tracer: fx.Tracer, shapes: dict[fx.Node, Shape]
    ) -> None:
        self.parts = dict(module.named_modules())
        self.traced = list(traced.nodes)
        self.order = {node: place for place, node in enumerate(self.traced)}
        self.scopes = {name: path for name, (path, _) in tracer.node_name_to_scope.items()}
        self.shapes = shapes
        """Of the traced nodes that give a tensor."""
        self.nodes: dict[str, Node] = {}
        self.values: dict[fx.Node, str] = {}
        """The value that each traced node gives; several may give the same."""
        self.users: dict[str, list[fx.Node]] = {}
        self.activated: dict[tuple[str, str], str] = {}
        """Which value is a given activation of another."""
        self.input_shape: Shape = ()

    def graph(self, input_shape: tuple[int, int, int]) -> Graph:
        """Lower everything; called once."""
        self.input_shape = (1, *input_shape)
        for node in self.traced:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                return Graph(input_shape, self._renamed(self._output(node)))
            elif node in self.shapes:
                self._lower(node)
        raise ExportError("the traced graph has no output")

    def _lower(self, node: fx.Node) -> None:
        part = self.parts[str(node.target)] if node.op == "call_module" else None
        op = OPS.get(node.target if part is None else module_type(part))
        if op is None or node.op not in ("call_module", "call_function", "call_method"):
            self.refuse(node, f"is outside the compiler's ops; known: {', '.join(known_ops())}")
        self._check_in_place(node, part)
        LOWER[op](self, node, part)

    def emit(self, node: fx.Node, kind: type[N], inputs: tuple[str, ...], **fields: Any) -> None:
        """Add a node of ``kind`` that computes what the traced ``node`` does."""
        name = base = str(node.target) if node.op == "call_module" else node.name
        again = 1
        while name in self.nodes or name in (INPUT, OUTPUT):
            again += 1
            name = f"{base}_{again}"
        self.nodes[name] = kind(name=name, inputs=inputs, shape=self.shapes[node], **fields)
        self.values[node], self.users[name] = name, self._users(node)

    def become(self, node: fx.Node, value: str) -> None:
        """Let ``node`` be another name of ``value``, its users be the value's."""
        self.values[node] = value
        self.users[value] = [user for user in self.users[value] if user is not node]
        self.users[value] += self._users(node)

    def operand(self, node: fx.Node, place: int = 0) -> str:
        """Return the value that is the ``place``-th argument of ``node``."""
        given = node.args[place] if place < len(node.args) else None
        if given is None and place == 0:
            given = node.kwargs.get("input")
        return self.value(node, given)

    def value(self, node: fx.Node, given: Any) -> str:
        """Return the value that ``given``, an argument of ``node``, is."""
        if not isinstance(given, fx.Node) or given not in self.values:
            self.refuse(node, f"with {given!r} as an operand is not supported, only with a tensor")
        return self.values[given]

    def shape(self, value: str) -> Shape:
        return self.input_shape if value == INPUT else self.nodes[value].shape

    def refuse(self, node: fx.Node, why: str) -> NoReturn:
        """Raise the error that names the module's path, the operation, and why not."""
        part = self.parts.get(str(node.target)) if node.op == "call_module" else None
        path = str(node.target) if part is not None else self.scopes.get(node.name, "")
        raise ExportError(f"{path or 'the network'}: {op_name(node, part)} {why}")

    def _users(self, node: fx.Node) -> list[fx.Node]:
        """Those that take the tensor, not only its size."""
        return [user for user in node.users if user in self.shapes]

    def _input(self, node: fx.Node) -> None:
        self.values[node], self.users[INPUT] = INPUT, self._users(node)

    def _output(self, node: fx.Node) -> str:
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned not in self.values:
            raise ExportError(f"the network returns {returned!r}; one tensor is supported")
        if self.values[returned] == INPUT:
            raise ExportError("the network returns its input: there is nothing to compile")
        if isinstance(self.nodes[self.values[returned]], Zeros):
            raise ExportError("the network returns zeros: there is nothing to compile")
        return self.values[returned]

    def _renamed(self, last: str) -> tuple[Node, ...]:
        def called(value: str) -> str:
            return OUTPUT if value == last else value

        return tuple(
            msgspec.structs.replace(
                node, name=called(node.name), inputs=tuple(map(called, node.inputs))
            )
            for node in self.nodes.values()
        )

    def _check_in_place(self, node: fx.Node, part: nn.Module | None) -> None:
        """A value overwritten in place must not be read afterwards under its old name."""
        if in_place(node, part) and isinstance(self.nodes.get(self.operand(node)), Slice):
            self.refuse(node, "in place overwrites part of a value")
        if in_place(node, part) and any(
            self.order[user] > self.order[node] for user in self.users[self.operand(node)]
        ):
            self.refuse(node, "in place overwrites a value that is used again later")
