"""Writes a graph as a file of the format and versions that a recipe states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwnas.export.graph.nodes import Graph
from hwnas.export.onnx.emitter import write_onnx
from hwnas.export.recipe import OnnxRecipe, Recipe
from hwnas.export.tflite.emitter import write_tflite


def write_graph(
    graph: Graph,
    recipe: Recipe,
    path: Path,
    metadata: Mapping[str, bytes],
    resized: Graph | None = None,
) -> None:
    """Write a file of floats in the versions that ``recipe`` states.

    Its weights, and what is multiplied with them, have the bits that the recipe's precision states;
    32 for that of ``int8``, which is quantised afterwards. With ``resized``, the graph at
    another size, height and width are dynamic; ONNX only.
    """
    if isinstance(recipe, OnnxRecipe):
        write_onnx(
            graph,
            path,
            opset=recipe.opset,
            ir_version=recipe.ir_version,
            metadata=metadata,
            dynamic_batch=recipe.dynamic_batch,
            precision=recipe.precision,
            resized=resized,
        )
    else:
        write_tflite(
            graph,
            path,
            schema_version=recipe.schema_version,
            metadata=metadata,
            precision=recipe.precision,
        )
