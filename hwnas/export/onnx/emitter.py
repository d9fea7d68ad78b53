"""Writes the compiler's graph as ONNX.

Activations are operators of their own: ONNX Runtime fuses them when it opens the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np

from hwnas.architecture.artifact import Precision
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Graph, Node
from hwnas.export.layout.rules import NCHW, Arranged, arrange

# these modules register their emitters when they are imported
from hwnas.export.onnx import (  # noqa: F401
    elementwise,
    layers,
    layout,
    pieces,
    reductions,
    spatial,
)
from hwnas.export.onnx.model_builder import EMITTERS, OnnxBuilder

OLDEST_OPSET_OF_ANY_SIZE = 15
"""Since then ``Shape`` gives some of the axes."""


def write_onnx(
    graph: Graph,
    path: Path,
    *,
    opset: int = 17,
    ir_version: int = 9,
    metadata: Mapping[str, bytes] | None = None,
    dynamic_batch: bool = False,
    precision: Precision = "fp32",
    resized: Graph | None = None,
) -> None:
    """Write and check a model with the inputs and outputs of ``graph``.

    ``opset`` is 13 or later; ``ir_version`` is raised where the opset needs it. With
    ``dynamic_batch`` the first axis of each is dynamic. ``resized`` is the graph at another height
    and width: then these are dynamic, and a node that depends on them is an `ExportError`.
    ``metadata`` (UTF-8) becomes ``metadata_props``; ``precision`` states the bits of weights and of
    what they are multiplied with. The same graph gives the same bytes.
    """
    arranged = arrange(graph, NCHW)
    if resized is None:
        builder = OnnxBuilder(arranged, opset, dynamic_batch, precision)
        for node in arranged.nodes:
            EMITTERS.emit(builder, node)
    else:
        other = arrange(resized, NCHW)
        builder = _of_any_size(
            OnnxBuilder(arranged, opset, dynamic_batch, precision, other),
            OnnxBuilder(other, opset, dynamic_batch, precision, arranged),
            arranged,
            other,
        )
    with path.open("wb") as file:
        file.writelines(builder.serialise(ir_version, metadata or {}))


def _of_any_size(
    builder: OnnxBuilder, other: OnnxBuilder, graph: Arranged, resized: Arranged
) -> OnnxBuilder:
    """Write the graph at both sizes; raise `ExportError` for the first node that differs."""
    if builder.opset < OLDEST_OPSET_OF_ANY_SIZE:
        raise ExportError(
            f"a dynamic height and width needs opset {OLDEST_OPSET_OF_ANY_SIZE} or later"
        )
    for first, second in zip_longest(graph.nodes, resized.nodes):
        if first is None or second is None or _kind(first) != _kind(second):
            own = first or second
            raise ExportError(
                f"{own.name if own else 'output'}: the network computes something else for images "
                "of another size; height and width cannot be dynamic"
            )
    builders = builder, other
    for pair in zip(graph.nodes, resized.nodes, strict=True):
        marks = [(len(each.nodes), len(each.initializers)) for each in builders]
        for each, node in zip(builders, pair, strict=True):
            EMITTERS.emit(each, node)
        if not _is_same(builders, marks):
            raise ExportError(
                f"{pair[0].name}: depends on the size of the image (it gives "
                f"{list(pair[0].shape)}, and {list(pair[1].shape)} at another size); height and "
                "width cannot be dynamic"
            )
    return builder


def _kind(node: Node) -> tuple[str, type[Node]]:
    return node.name, type(node)


def _is_same(builders: tuple[OnnxBuilder, OnnxBuilder], marks: list[tuple[int, int]]) -> bool:
    """Return whether both have written the same operators and constants since ``marks``."""
    nodes = [
        [node.SerializeToString(deterministic=True) for node in builder.nodes[mark[0] :]]
        for builder, mark in zip(builders, marks, strict=True)
    ]
    constants = [
        list(builder.initializers.items())[mark[1] :]
        for builder, mark in zip(builders, marks, strict=True)
    ]
    return (
        nodes[0] == nodes[1]
        and [name for name, _ in constants[0]] == [name for name, _ in constants[1]]
        and all(
            np.array_equal(values, other)
            for (_, values), (_, other) in zip(*constants, strict=True)
        )
    )
