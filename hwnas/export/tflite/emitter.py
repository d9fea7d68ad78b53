"""Writes the compiler's graph as TFLite: NHWC, activations fused, hardly a TRANSPOSE.

Weights are transposed when they are written: convolutions to ``[O, h, w, I]``, depthwise
convolutions to ``[1, h, w, C]``, linear layers after a flattened map to the order of NHWC. PyTorch
mostly pads both sides alike, TFLite's SAME pads less before than after; where the two differ, an
explicit PAD is written. A TRANSPOSE remains in channel shuffles, before and after the heads of
attention, and where the order of a flattened map is visible.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwnas.architecture.artifact import Precision
from hwnas.export.graph.nodes import Graph
from hwnas.export.layout.arrange import Arranged
from hwnas.export.layout.hoist import hoisted
from hwnas.export.layout.merge import merged
from hwnas.export.layout.rows import read_by_rows
from hwnas.export.layout.rules import NHWC, arrange

# these modules register their emitters when they are imported
from hwnas.export.tflite import (  # noqa: F401
    elementwise,
    layers,
    layout,
    pieces,
    spatial,
    transposed,
)
from hwnas.export.tflite.model_builder import EMITTERS, TfliteBuilder
from hwnas.export.tflite.sampling import without_sampling


def write_tflite(
    graph: Graph,
    path: Path,
    *,
    schema_version: int = 3,
    metadata: Mapping[str, bytes] | None = None,
    precision: Precision = "fp32",
) -> None:
    """Write a model with the inputs and outputs of ``graph``, those of four axes as NHWC.

    The model has the signature ``serving_default``. ``metadata`` becomes entries of the model's
    metadata; ``precision`` states the bits of weights and of what they are multiplied with. The
    same graph gives the same bytes.
    """
    arranged = tidied(arrange(without_sampling(graph), NHWC))
    builder = TfliteBuilder(arranged, precision)
    for node in arranged.nodes:
        EMITTERS.emit(builder, node)
    for name, content in (metadata or {}).items():
        builder.add_metadata(name, content)
    with path.open("wb") as file:
        file.writelines(builder.serialise(schema_version))


def tidied(graph: Arranged) -> Arranged:
    """Return a graph with fewer transposes: those of a chain, or of alike pieces, are one."""
    return merged(hoisted(read_by_rows(merged(graph))))
