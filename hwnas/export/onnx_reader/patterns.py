"""Operators that exporters write as several nodes: GELU, layer norm and hard swish.

Both runtimes have kernels for them; written out, they take several times as long.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from onnx import NodeProto, helper, numpy_helper

Match = tuple[NodeProto, NodeProto]
"""The last node of a pattern, and the node that replaces it."""


def simplified(nodes: list[NodeProto], constants: Mapping[str, Any]) -> list[NodeProto]:
    """Return ``nodes`` with each pattern as its operator; those that it leaves unused remain.

    ``constants`` are the initialisers of the graph by name.
    """
    graph = _Graph(nodes, constants)
    replaced: dict[int, NodeProto] = {}
    for node in nodes:
        for rule in RULES.get(node.op_type, ()):
            for last, operator in rule(graph, node):
                operator.output.extend(last.output)
                operator.name = last.name
                replaced[id(last)] = operator
    return [replaced.get(id(node), node) for node in nodes]


class _Graph:
    """The node that computes each value of a graph, and the nodes that read it."""

    def __init__(self, nodes: list[NodeProto], constants: Mapping[str, Any]) -> None:
        self.makers = {output: node for node in nodes for output in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        self.values = dict(constants)
        for node in nodes:
            for name in set(node.input):
                self.readers.setdefault(name, []).append(node)
            if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
                self.values[node.output[0]] = node.attribute[0].t
            elif node.op_type == "Identity" and node.input[0] in self.values:
                self.values[node.output[0]] = self.values[node.input[0]]

    def maker(self, value: str, *ops: str) -> NodeProto | None:
        """Return the node of one of ``ops`` that computes a value."""
        node = self.makers.get(value)
        return node if node is not None and node.op_type in ops else None

    def reader(self, value: str, *ops: str) -> NodeProto | None:
        """Return the only reader of a value, if it is one of ``ops``."""
        nodes = self.readers.get(value, [])
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type in ops else None

    def array(self, value: str) -> Any:
        """Return a constant as an array, else None."""
        tensor = self.values.get(value)
        if tensor is None or tensor.data_location:  # in another file
            return None
        return numpy_helper.to_array(tensor)

    def is_number(self, value: str, number: float) -> bool:
        """Return whether a value is a constant of one element close to ``number``."""
        tensor = self.values.get(value)
        if tensor is None or math.prod(tensor.dims) != 1:
            return False
        array = self.array(value)
        return array is not None and math.isclose(float(array.item()), number, rel_tol=1e-3)

    def operand(self, node: NodeProto, number: float) -> str | None:
        """Return the operand beside a constant ``number`` of a sum or a product."""
        first, second = node.input
        if self.is_number(second, number):
            return first
        return second if self.is_number(first, number) else None


def _gelu(graph: _Graph, erf: NodeProto) -> Iterator[Match]:
    """Match ``x * 0.5 * (1 + erf(x / sqrt(2)))``, multiplied in any order."""
    scaled = graph.maker(erf.input[0], "Div", "Mul")
    if scaled is None:
        return
    if scaled.op_type == "Div":
        x = scaled.input[0] if graph.is_number(scaled.input[1], math.sqrt(2)) else None
    else:
        x = graph.operand(scaled, math.sqrt(0.5))
    more = graph.reader(erf.output[0], "Add")
    if x is None or more is None or graph.operand(more, 1.0) is None:
        return
    product = graph.reader(more.output[0], "Mul")
    if product is None:
        return
    other = product.input[product.input[0] == more.output[0]]
    half = graph.maker(other, "Mul")
    if half is not None and graph.operand(half, 0.5) == x:
        yield product, _made("Gelu", [x])
        return
    last = graph.reader(product.output[0], "Mul")
    if last is None:
        return
    rest = last.input[last.input[0] == product.output[0]]
    if (other == x and graph.is_number(rest, 0.5)) or (rest == x and graph.is_number(other, 0.5)):
        yield last, _made("Gelu", [x])


def _hard_swish(graph: _Graph, node: NodeProto) -> Iterator[Match]:
    """Match ``x * clip(x + 3, 0, 6) / 6``, divided before or after, or times a hard sigmoid."""
    if node.op_type == "HardSigmoid":
        settings = {entry.name: entry.f for entry in node.attribute}
        gate = math.isclose(settings.get("alpha", 0.2), 1 / 6, rel_tol=1e-3)
        product = graph.reader(node.output[0], "Mul")
        gate = gate and settings.get("beta", 0.5) == 0.5
        if gate and product is not None and node.input[0] in product.input:
            yield product, _made("HardSwish", [node.input[0]])
        return
    shifted = graph.maker(node.input[0], "Add")
    x = None if shifted is None else graph.operand(shifted, 3.0)
    if x is None or not _clips_to_six(graph, node):
        return
    for first, second in ((("Div", "Mul"), ("Mul",)), (("Mul",), ("Div", "Mul"))):
        step = graph.reader(node.output[0], *first)
        last = None if step is None else graph.reader(step.output[0], *second)
        if step is None or last is None:
            continue
        pairs = [(step, node.output[0]), (last, step.output[0])]
        roles = {_role(graph, x, each, value) for each, value in pairs}
        if roles == {"gate", "sixth"}:
            yield last, _made("HardSwish", [x])
            return


def _role(graph: _Graph, x: str, node: NodeProto, value: str) -> str:
    """Return the role of a node that reads ``value``: it multiplies with ``x``, or divides by 6."""
    other = node.input[node.input[0] == value]
    if node.op_type == "Mul" and other == x:
        return "gate"
    if node.op_type == "Mul" and graph.is_number(other, 1 / 6):
        return "sixth"
    divides = node.op_type == "Div" and node.input[0] == value and graph.is_number(other, 6.0)
    return "sixth" if divides else ""


def _clips_to_six(graph: _Graph, clip: NodeProto) -> bool:
    settings = {entry.name: entry.f for entry in clip.attribute}
    if settings:
        return (settings.get("min"), settings.get("max")) == (0.0, 6.0)
    if len(clip.input) != 3:
        return False
    low = graph.array(clip.input[1]) if clip.input[1] else None
    from_zero = low is not None and low.size == 1 and low.item() == 0
    return from_zero and graph.is_number(clip.input[2], 6.0)


def _layer_norm(graph: _Graph, division: NodeProto) -> Iterator[Match]:
    """Match ``(x - mean) / sqrt(var + eps) * gain + shift`` over the last axis."""
    centred, root = (graph.maker(name, "Sub", "Sqrt") for name in division.input)
    if centred is None or centred.op_type != "Sub" or root is None or root.op_type != "Sqrt":
        return
    x, eps = centred.input[0], _eps(graph, root.input[0], centred)
    mean = graph.maker(centred.input[1], "ReduceMean")
    if eps is None or mean is None or mean.input[0] != x or not _over_last_axis(graph, mean):
        return
    scaled = graph.reader(division.output[0], "Mul")
    moved = None if scaled is None else graph.reader(scaled.output[0], "Add")
    if scaled is None or moved is None:
        return
    gain = scaled.input[scaled.input[0] == division.output[0]]
    shift = moved.input[moved.input[0] == scaled.output[0]]
    arrays = graph.array(gain), graph.array(shift)
    if all(array is not None and array.ndim == 1 for array in arrays):
        settings: dict[str, Any] = {"axis": -1, "epsilon": eps}
        yield moved, _made("LayerNormalization", [x, gain, shift], **settings)


def _eps(graph: _Graph, value: str, centred: NodeProto) -> float | None:
    """Return the constant that is added to the variance, the mean square of ``centred``; else
    None."""
    more = graph.maker(value, "Add")
    names = [] if more is None else list(more.input)
    numbers = [array for name in names if (array := graph.array(name)) is not None]
    spread = next((node for name in names if (node := graph.maker(name, "ReduceMean"))), None)
    if len(numbers) != 1 or numbers[0].size != 1 or spread is None:
        return None
    if not (_over_last_axis(graph, spread) and _is_square(graph, spread.input[0], centred)):
        return None
    return float(numbers[0].item())


def _is_square(graph: _Graph, value: str, centred: NodeProto) -> bool:
    """Return whether a value is the square of ``centred``, or of another node that equals it."""
    square = graph.maker(value, "Pow", "Mul")
    if square is None:
        return False
    twice = square.input[0] == square.input[1]
    if not twice and not (square.op_type == "Pow" and graph.is_number(square.input[1], 2.0)):
        return False
    base = graph.maker(square.input[0], "Sub")
    return base is not None and list(base.input) == list(centred.input)


def _over_last_axis(graph: _Graph, node: NodeProto) -> bool:
    """Return whether a mean is over the axis -1, which it keeps."""
    settings = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    axes = settings.get("axes")
    if axes is None and len(node.input) > 1:
        array = graph.array(node.input[1])
        axes = None if array is None else np.ravel(array).tolist()
    return list(axes or ()) == [-1] and settings.get("keepdims", 1) == 1


def _made(op: str, inputs: Iterable[str], **attributes: Any) -> NodeProto:
    return helper.make_node(op, list(inputs), [], **attributes)


RULES: dict[str, tuple[Any, ...]] = {
    "Erf": (_gelu,),
    "Clip": (_hard_swish,),
    "HardSigmoid": (_hard_swish,),
    "Div": (_layer_norm,),
}
"""The patterns that contain each operator."""
