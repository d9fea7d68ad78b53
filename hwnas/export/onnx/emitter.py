"""Writes the compiler's graph as ONNX.

Activations are operators of their own: ONNX Runtime fuses them when it opens the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwnas.export.graph.nodes import Graph
from hwnas.export.layout.rules import NCHW, arrange

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


def write_onnx(
    graph: Graph,
    path: Path,
    *,
    opset: int = 17,
    ir_version: int = 9,
    metadata: Mapping[str, bytes] | None = None,
    dynamic_batch: bool = False,
    half: bool = False,
) -> None:
    """Write and check a model with the inputs and outputs of ``graph``.

    ``opset`` is 13 or later; ``ir_version`` is raised where the opset needs it. With
    ``dynamic_batch`` the first axis of each is dynamic. ``metadata`` (UTF-8) becomes
    ``metadata_props``; with ``half`` weights have 16 bits. The same graph gives the same bytes.
    """
    arranged = arrange(graph, NCHW)
    builder = OnnxBuilder(arranged, opset, dynamic_batch, half)
    for node in arranged.nodes:
        EMITTERS.emit(builder, node)
    path.write_bytes(builder.serialise(ir_version, metadata or {}))
