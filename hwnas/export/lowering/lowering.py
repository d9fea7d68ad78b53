"""The lowering of a traced network: the graph under construction, and who uses which value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

import msgspec
from torch import fx, nn
from torch.fx.node import map_arg

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import INPUT, OUTPUT, Constant, Graph, Node, Reshape, Slice
from hwnas.export.graph.ops import ALIASES, find_op, in_place, known_ops, op_name
from hwnas.export.graph.shapes import NodeValues, Shape
from hwnas.export.graph.views import NHWC, View

N = TypeVar("N", bound=Node)
Lower = Callable[["Lowering", fx.Node, Any], None]
"""Lowers a traced node; the last argument is the module that the node calls, or None."""
FALL_BACK = "fall-back: --via torch-onnx or litert-torch"


class Lowering:
    """Lowers traced nodes, in order, to nodes of the compiler's graph."""

    def __init__(
        self,
        module: nn.Module,
        traced: fx.Graph,
        tracer: fx.Tracer,
        known: NodeValues,
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
        """Value that each traced node gives; several may give the same."""
        self.views: dict[fx.Node, View] = {}
        """Views of the traced nodes that give their value under other axes."""
        self.pieces: dict[fx.Node, tuple[str, int]] = {}
        """Value that a traced node splits, and the axis."""
        self.users: dict[str, list[fx.Node]] = {}
        self.sources: dict[str, fx.Node] = {}
        """Traced node whose result each value is."""
        self.activated: dict[tuple[str, str], str] = {}
        """Values that are an activation of another value, by ``(op, value)``."""
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
        self,
        node: fx.Node,
        kind: type[N],
        inputs: tuple[str, ...],
        view: View | None = None,
        **fields: Any,
    ) -> None:
        """Add a node of ``kind`` for the traced ``node``, which gives a ``view`` of its value."""
        shape = self.shapes[node]
        if view == NHWC:
            shape = (shape[0], shape[3], shape[1], shape[2])
        name = self._add(node, "", kind, inputs, shape, fields)
        self.values[node], self.users[name] = name, self._users(node)
        self.sources[name] = node
        self._show(node, view)

    def step(
        self,
        node: fx.Node,
        suffix: str,
        kind: type[N],
        inputs: tuple[str, ...],
        shape: Shape,
        **fields: Any,
    ) -> str:
        """Add a node for a part of the traced ``node`` and return its name, ``node.suffix``."""
        name = self._add(node, f".{suffix}", kind, inputs, shape, fields)
        self.users[name] = [node]
        return name

    def become(self, node: fx.Node, value: str, view: View | None = None) -> None:
        """Make ``node`` an alias of ``value``: its users become users of the value."""
        self.values[node] = value
        self.users[value] = [user for user in self.users[value] if user is not node]
        self.users[value] += self._users(node)
        self._show(node, view)
        if value != INPUT and view in (None, NHWC):
            self.sources[value] = node

    def drop(self, value: str, node: fx.Node) -> None:
        """Remove ``value``, whose only user ``node`` computes it as well."""
        for source in self.nodes.pop(value).inputs:
            self.users[source] = [
                node if self.values.get(user) == value else user for user in self.users[source]
            ]
        self.sources.pop(value, None)

    def operand(self, node: fx.Node) -> str:
        """Return the value of the first argument of ``node``."""
        return self.value(node, self.argument(node))

    def argument(self, node: fx.Node, index: int = 0) -> Any:
        """Return the first or second argument of ``node``, as it was traced."""
        argument = node.args[index] if index < len(node.args) else None
        return node.kwargs.get(("input", "other")[index]) if argument is None else argument

    def value(self, node: fx.Node, argument: Any, view: View | None = None) -> str:
        """Return the value that ``argument`` of ``node`` is a ``view`` of."""
        if not isinstance(argument, fx.Node) or argument not in self.values:
            self.refuse(node, f"with operand {argument!r} is not supported, only with a tensor")
        if self.views.get(argument) != view:
            self.refuse_layout(node, self.views.get(argument) or view)
        return self.values[argument]

    def options(self, node: fx.Node, *names: str) -> dict[str, Any]:
        """Return the arguments after the first by name, with sizes as numbers."""
        options = {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}
        options.pop("input", None)
        return dict(map_arg(options, lambda source: self.known.plain.get(source, source)))

    def constant(self, argument: Any) -> Any:
        """Return the tensor or number of a constant argument, None if it depends on the image."""
        if isinstance(argument, fx.Node):
            return self.known.constants.get(argument, self.known.plain.get(argument))
        return argument if isinstance(argument, int | float) else None

    def has_one_user(self, value: str) -> bool:
        return len(self.users[value]) == 1

    def shape(self, value: str) -> Shape:
        return self.input_shape if value == INPUT else self.nodes[value].shape

    def to_nchw(self, node: fx.Node, results: dict[fx.Node, Any]) -> Any:
        """Return the result of a traced node under the axes of its value."""
        result = results[node]
        return result.transpose(0, 3, 1, 2) if self.views.get(node) == NHWC else result

    def refuse(self, node: fx.Node, why: str) -> NoReturn:
        """Raise the error that names the module's path, the operation, and the reason."""
        part = self.parts.get(str(node.target)) if node.op == "call_module" else None
        path = str(node.target) if part is not None else self.scopes.get(node.name, "")
        raise ExportError(f"{path or 'the network'}: {op_name(node, part)} {why}")

    def refuse_layout(self, node: fx.Node, view: View | None) -> NoReturn:
        layout = "NCHW" if view is None else view.layout.value
        self.refuse(node, f"of a tensor with layout {layout} is not supported")

    def _add(
        self,
        node: fx.Node,
        suffix: str,
        kind: type[N],
        inputs: tuple[str, ...],
        shape: Shape,
        fields: dict[str, Any],
    ) -> str:
        name = base = (str(node.target) if node.op == "call_module" else node.name) + suffix
        number = 1
        while name in self.nodes or name in (INPUT, OUTPUT):
            number += 1
            name = f"{base}_{number}"
        self.nodes[name] = kind(name=name, inputs=inputs, shape=shape, **fields)
        return name

    def _show(self, node: fx.Node, view: View | None) -> None:
        if view is not None:
            self.views[node] = view

    def _is_value(self, node: fx.Node) -> bool:
        """Return whether ``node`` gives one or several tensors that depend on the image."""
        tensors = node in self.shapes or node in self.known.pieces
        return tensors and node not in self.known.constants

    def _users(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that read the tensor, not only its size."""
        return [user for user in node.users if self._is_value(user) or user.op == "output"]

    def _input(self, node: fx.Node) -> None:
        self.values[node], self.users[INPUT] = INPUT, self._users(node)

    def _output(self, node: fx.Node) -> str:
        returned = node.args[0]
        if not isinstance(returned, fx.Node) or returned not in self.values:
            raise ExportError(f"the network returns {returned!r}; only one tensor is supported")
        value = self.value(node, returned)
        if value == INPUT:
            raise ExportError("the network returns its input: there is nothing to compile")
        if isinstance(self.nodes[value], Constant):
            raise ExportError("the network returns a constant: there is nothing to compile")
        return value

    def _renamed(self, last: str) -> tuple[Node, ...]:
        def rename(value: str) -> str:
            return OUTPUT if value == last else value

        return tuple(
            msgspec.structs.replace(
                node, name=rename(node.name), inputs=tuple(map(rename, node.inputs))
            )
            for node in self.nodes.values()
        )

    def _check_in_place(self, node: fx.Node, part: nn.Module | None) -> None:
        """Refuse to overwrite a value in place that is read later under its old name."""
        if not in_place(node, part):
            return
        value = self.values.get(self.argument(node), "")
        source = self.nodes.get(value)
        if isinstance(source, Slice):
            self.refuse(node, "in place overwrites part of a value")
        shared = [value, *(source.inputs if isinstance(source, Reshape) else ())]
        users = [user for name in shared for user in self.users.get(name, ())]
        if any(self._is_read_later(user, node) for user in users):
            self.refuse(node, "in place overwrites a value that is used again later")

    def _is_read_later(self, user: fx.Node, node: fx.Node) -> bool:
        """Return whether ``user``, or an alias of its result, is read after ``node``."""
        if self.order[user] > self.order[node]:
            return True
        part = self.parts.get(str(user.target)) if user.op == "call_module" else None
        shares = user is not node and user.op != "output" and find_op(user, part) in ALIASES
        others = [other for other in user.users if other is not node]
        return shares and any(self._is_read_later(other, node) for other in others)
