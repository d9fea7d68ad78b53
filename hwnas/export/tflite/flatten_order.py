"""Flattened maps in TFLite: what is NHWC flattens to another order than PyTorch's NCHW.

Where only linear layers read a flattened map, their weights take that order and nothing moves.
"""

from __future__ import annotations

from hwnas.export.graph.nodes import Activation, Array, Graph, Linear, Node, Reshape

Map = tuple[int, int, int]


def flat_orders(graph: Graph) -> dict[str, Map]:
    """Return the values that stay in the order of NHWC, with channels, height and width."""
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    shapes = {node.name: node.shape for node in graph.nodes}
    shapes.update(dict.fromkeys({name for name in users} - set(shapes), (1, *graph.input_shape)))
    found: dict[str, Map] = {}
    for node in graph.nodes:
        given = shapes[node.inputs[0]] if node.inputs else ()
        if isinstance(node, Reshape) and len(given) == 4 and len(node.shape) == 2:
            readers = _readers(node.name, users)
            if readers is not None:
                found.update(dict.fromkeys(readers, (given[1], given[2], given[3])))
    return found


def in_pixel_order(weight: Array, flattened: Map | None) -> Array:
    """Return the weights ``[O, I]`` of a linear layer for an input that is flat from NHWC."""
    if flattened is None:
        return weight
    maps = weight.reshape(len(weight), *flattened)
    return maps.transpose(0, 2, 3, 1).reshape(weight.shape)


def _readers(name: str, users: dict[str, list[Node]]) -> list[str] | None:
    """Return ``name`` and its activations, if linear layers are all that reads them."""
    names = [name]
    if name not in users:
        return None
    for user in users[name]:
        if isinstance(user, Activation) and user.op not in ("softmax", "log_softmax"):
            further = _readers(user.name, users)
            if further is None:
                return None
            names += further
        elif not isinstance(user, Linear):
            return None
    return names
