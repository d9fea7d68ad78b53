"""The lowering of a traced network: what is computed by which value, and who uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from torch import fx, nn
from torch.fx.node import map_arg

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import INPUT, OUTPUT, Constant, Graph, Node, Reshape, Slice
from hwnas.export.graph.ops import ALIASES, find_op, in_place, known_ops, op_name
from hwnas.export.graph.shapes import Known, Shape
from hwnas.export.graph.views import LAST, View

N = TypeVar("N", bound=Node)
Lower = Callable[["Lowering", fx.Node, Any], None]
"""Lowers one traced node; the last argument is its module, where it is one."""
FALL_BACK = "fall-back: --via torch-onnx or litert-torch"


class Lowering:
    """Turns traced nodes, one by one and in order, into nodes of the compiler's graph."""

    def __init__(
        self,
        module: nn.Module,
        traced: fx.Graph,
        tracer: fx.Tracer,
        known: Known,
        table: Mapping[str, Lower],
    ) -> None:
        self.parts = dict(module.named_modules())
        self.traced = list(traced.nodes)
        self.order = {node: place for place, node in enumerate(self.traced)}
        self.scopes = {name: path for name, (path, _) in tracer.node_name_to_scope.items()}
        self.shapes, self.known = known.shapes, known
        self.table = table
        self.nodes: dict[str, Node] = {}
        self.values: dict[fx.Node, str] = {}
        """The value that each traced node gives; several may give the same."""
        self.views: dict[fx.Node, View] = {}
        """Of those that do not give their value with its own axes."""
        self.pieces: dict[fx.Node, tuple[str, int]] = {}
        """The value that a traced node cuts, and along which axis."""
        self.users: dict[str, list[fx.Node]] = {}
        self.sources: dict[str, fx.Node] = {}
        """The traced node whose result each value is."""
        self.activated: dict[tuple[str, str], str] = {}
        """Which value is a given activation of another."""
        self.input_shape: Shape = ()
        self.result: Graph

    def lower(self, input_shape: tuple[int, int, int]) -> None:
        """Lower everything to ``result``; called once."""
        self.input_shape = (1, *input_shape)
        for node in self.traced:
            if node.op == "placeholder":
                self._input(node)
            elif node.op == "output":
                self.result = Graph(input_shape, self._renamed(self._output(node)))
            elif self._is_value(node):
                self._lower(node)

    def _lower(self, node: fx.Node) -> None:
        part = self.parts[str(node.target)] if node.op == "call_module" else None
        op = find_op(node, part)
        if op is None:
            known = ", ".join(known_ops())
            self.refuse(node, f"is outside the compiler's ops; {FALL_BACK}; known: {known}")
        self._check_in_place(node, part)
        self.table[op](self, node, part)

    def emit(
        self, node: fx.Node, kind: type[N], inputs: tuple[str, ...], view: View | None = None,
        **fields: Any,
    ) -> None:  # fmt: skip
        """Add a node of ``kind`` that computes what the traced ``node`` does, shown by ``view``."""
        shape = self.shapes[node]
        if view == LAST:
            shape = (shape[0], shape[3], shape[1], shape[2])
        name = self._add(node, "", kind, inputs, shape, fields)
        self.values[node], self.users[name] = name, self._users(node)
        self.sources[name] = node
        self._show(node, view)

    def step(
        self, node: fx.Node, what: str, kind: type[N], inputs: tuple[str, ...], shape: Shape,
        **fields: Any,
    ) -> str:  # fmt: skip
        """Add a node that computes ``what``, a part of the traced ``node``; return its value."""
        name = self._add(node, f".{what}", kind, inputs, shape, fields)
        self.users[name] = [node]
        return name

    def become(self, node: fx.Node, value: str, view: View | None = None) -> None:
        """Let ``node`` be another name of ``value``, its users be the value's."""
        self.values[node] = value
        self.users[value] = [user for user in self.users[value] if user is not node]
        self.users[value] += self._users(node)
        self._show(node, view)
        if value != INPUT and view in (None, LAST):
            self.sources[value] = node

    def drop(self, value: str, node: fx.Node) -> None:
        """Remove ``value``, which only ``node`` uses: the traced ``node`` computes it as well."""
        for given in self.nodes.pop(value).inputs:
            self.users[given] = [
                node if self.values.get(user) == value else user for user in self.users[given]
            ]
        self.sources.pop(value, None)

    def operand(self, node: fx.Node, place: int = 0) -> str:
        """Return the value that is the ``place``-th argument of ``node``."""
        return self.value(node, self.given(node, place))

    def given(self, node: fx.Node, place: int = 0) -> Any:
        """Return the ``place``-th argument of ``node``, as it was traced."""
        given = node.args[place] if place < len(node.args) else None
        return node.kwargs.get("input" if place == 0 else "other") if given is None else given

    def value(self, node: fx.Node, given: Any, view: View | None = None) -> str:
        """Return the value that ``given``, an argument of ``node``, shows by ``view``."""
        if not isinstance(given, fx.Node) or given not in self.values:
            self.refuse(node, f"with {given!r} as an operand is not supported, only with a tensor")
        if self.views.get(given) != view:
            found = self.views.get(given) or view
            self.refuse(node, f"of a tensor {found.kind if found else ''} is not supported")
        return self.values[given]

    def arguments(self, node: fx.Node, *names: str) -> dict[str, Any]:
        """Return the arguments after the first, by the names given, with sizes as numbers."""
        found = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
        found.pop("input", None)
        return dict(map_arg(found, lambda one: self.known.plain.get(one, one)))

    def constant(self, given: Any) -> Any:
        """Return the tensor or number that an argument is, if no image changes it, else None."""
        if isinstance(given, fx.Node):
            return self.known.constants.get(given, self.known.plain.get(given))
        return given if isinstance(given, int | float) else None

    def alone(self, value: str) -> bool:
        """Whether one traced node at most uses ``value``."""
        return len(self.users[value]) == 1

    def shape(self, value: str) -> Shape:
        return self.input_shape if value == INPUT else self.nodes[value].shape

    def plain(self, node: fx.Node, kept: dict[fx.Node, Any]) -> Any:
        """Return the array of a traced node with the axes of its value."""
        found = kept[node]
        return found.transpose(0, 3, 1, 2) if self.views.get(node) == LAST else found

    def refuse(self, node: fx.Node, why: str) -> NoReturn:
        """Raise the error that names the module's path, the operation, and why not."""
        part = self.parts.get(str(node.target)) if node.op == "call_module" else None
        path = str(node.target) if part is not None else self.scopes.get(node.name, "")
        raise ExportError(f"{path or 'the network'}: {op_name(node, part)} {why}")

    def _add(
        self, node: fx.Node, what: str, kind: type[N], inputs: tuple[str, ...], shape: Shape,
        fields: dict[str, Any],
    ) -> str:  # fmt: skip
        name = base = (str(node.target) if node.op == "call_module" else node.name) + what
        again = 1
        while name in self.nodes or name in (INPUT, OUTPUT):
            again += 1
            name = f"{base}_{again}"
        self.nodes[name] = kind(name=name, inputs=inputs, shape=shape, **fields)
        return name

    def _show(self, node: fx.Node, view: View | None) -> None:
        if view is not None:
            self.views[node] = view

    def _is_value(self, node: fx.Node) -> bool:
        """Whether ``node`` gives one tensor or several that depend on the image."""
        tensors = node in self.shapes or node in self.known.pieces
        return tensors and node not in self.known.constants

    def _users(self, node: fx.Node) -> list[fx.Node]:
        """Those that take the tensor, not only its size."""
        return [user for user in node.users if self._is_value(user) or user.op == "output"]

    def _input(self, node: fx.Node) -> None:
        self.values[node], self.users[INPUT] = INPUT, self._users(node)

    def _output(self, node: fx.Node) -> str:
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned not in self.values:
            raise ExportError(f"the network returns {returned!r}; one tensor is supported")
        value = self.value(node, returned)
        if value == INPUT:
            raise ExportError("the network returns its input: there is nothing to compile")
        if isinstance(self.nodes[value], Constant):
            raise ExportError("the network returns a constant: there is nothing to compile")
        return value

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
        if not in_place(node, part):
            return
        value = self.values.get(self.given(node), "")
        made = self.nodes.get(value)
        if isinstance(made, Slice):
            self.refuse(node, "in place overwrites part of a value")
        shared = [value, *(made.inputs if isinstance(made, Reshape) else ())]
        if any(self._read_later(user, node) for one in shared for user in self.users.get(one, ())):
            self.refuse(node, "in place overwrites a value that is used again later")

    def _read_later(self, user: fx.Node, node: fx.Node) -> bool:
        """Whether ``user``, or what shares its memory, is read after ``node``."""
        if self.order[user] > self.order[node]:
            return True
        part = self.parts.get(str(user.target)) if user.op == "call_module" else None
        shares = user is not node and user.op != "output" and find_op(user, part) in ALIASES
        return shares and any(self._read_later(one, node) for one in user.users if one is not node)
