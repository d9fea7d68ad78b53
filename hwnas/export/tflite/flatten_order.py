"""Flattened maps in TFLite: NHWC flattens to another order than PyTorch's NCHW.

Where only linear layers read a flattened map, their weights are reordered and no data moves.
"""

from __future__ import annotations

from hwnas.export.graph.nodes import Activation, Array, Graph, Linear, Node, Reshape

MapShape = tuple[int, int, int]


def nhwc_flattened(graph: Graph) -> dict[str, MapShape]:
    """Return the flattened values that may stay in NHWC order, with channels, height and width."""
    users: dict[str, list[Node]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            users.setdefault(name, []).append(node)
    shapes = {node.name: node.shape for node in graph.nodes}
    shapes.update(dict.fromkeys(users.keys() - shapes.keys(), (1, *graph.input_shape)))
    flattened: dict[str, MapShape] = {}
    for node in graph.nodes:
        before = shapes[node.inputs[0]] if node.inputs else ()
        if isinstance(node, Reshape) and len(before) == 4 and len(node.shape) == 2:
            names = _until_linear(node.name, users)
            if names is not None:
                flattened.update(dict.fromkeys(names, (before[1], before[2], before[3])))
    return flattened


def reorder_weight(weight: Array, map_shape: MapShape | None) -> Array:
    """Return the weights ``[O, I]`` of a linear layer for an input flattened from NHWC."""
    if map_shape is None:
        return weight
    maps = weight.reshape(len(weight), *map_shape)
    return maps.transpose(0, 2, 3, 1).reshape(weight.shape)


def _until_linear(name: str, users: dict[str, list[Node]]) -> list[str] | None:
    """Return ``name`` and its activations if all of them end in linear layers, else None."""
    names = [name]
    if name not in users:
        return None
    for user in users[name]:
        if isinstance(user, Activation) and user.op not in ("softmax", "log_softmax"):
            further = _until_linear(user.name, users)
            if further is None:
                return None
            names += further
        elif not isinstance(user, Linear):
            return None
    return names
