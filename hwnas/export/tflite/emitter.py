"""Writes the compiler's graph as TFLite: NHWC, activations fused, no TRANSPOSE but in a shuffle.

Weights are transposed when written: convolutions to ``[O, h, w, I]``, depthwise ones to
``[1, h, w, C]``, linear layers of flattened maps to the order of NHWC. PyTorch's padding is mostly
the same at both sides, TFLite's SAME puts less before than after; where the two differ there is an
explicit PAD.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hwnas.export.graph import nodes
from hwnas.export.graph.nodes import INPUT, OUTPUT, Graph
from hwnas.export.tflite import elementwise as values
from hwnas.export.tflite import layers as layers
from hwnas.export.tflite import layout as layout
from hwnas.export.tflite import spatial as maps
from hwnas.export.tflite.writer import Writer


def write_tflite(
    graph: Graph,
    path: Path,
    *,
    schema_version: int = 3,
    notes: Mapping[str, bytes] | None = None,
) -> None:
    """Write a model with input ``images`` ``[1, H, W, C]`` and output ``logits`` (NHWC if 4-D).

    The same graph gives the same bytes. It has the signature ``serving_default``. ``notes`` become
    metadata.
    """
    writer = Writer(graph)
    for node in graph.nodes:
        WRITE[type(node)](writer, node)
    for name, said in (notes or {}).items():
        writer.file.note(name, said)
    with path.open("wb") as file:
        file.writelines(writer.file.packed(schema_version, INPUT, OUTPUT))


WRITE: dict[type[nodes.Node], Callable[[Writer, Any], None]] = {
    nodes.Conv: layers.conv,
    nodes.ConvTranspose: layers.conv_transpose,
    nodes.Linear: layers.linear,
    nodes.LayerNorm: layers.layer_norm,
    nodes.Arithmetic: values.arithmetic,
    nodes.Activation: values.activation,
    nodes.Prelu: values.prelu,
    nodes.Constant: values.constant,
    nodes.Reshape: layout.reshape,
    nodes.Shuffle: layout.shuffle,
    nodes.Pool: maps.pool,
    nodes.Mean: maps.mean,
    nodes.WindowPool: maps.window_pool,
    nodes.Slice: maps.cut_out,
    nodes.Pad: maps.pad,
    nodes.Resize: maps.resize,
    nodes.Concat: maps.concat,
}
"""How each node of the compiler's graph is written."""
