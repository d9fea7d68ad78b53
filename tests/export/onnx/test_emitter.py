"""The structure of the compiler's ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from hwnas.export.graph.nodes import Node
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from hwnas.export.onnx.model_builder import EMITTERS
from hwnas.export.recipe import OnnxRecipe, find_recipe


def small_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6()),
        *(nn.Conv2d(8, 8, 3, groups=8), nn.Hardswish()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5), nn.Hardsigmoid()),
    )


def written(module: nn.Module, path: Path) -> Any:
    write_onnx(trace(module, (3, 12, 10)), path)
    return onnx.load(path)


def shape(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def test_input_and_output_are_named_and_hold_one_image(tmp_path: Path) -> None:
    graph = written(small_net(), tmp_path / "net.onnx").graph
    assert [(i.name, shape(i)) for i in graph.input] == [("images", [1, 3, 12, 10])]
    assert [(o.name, shape(o)) for o in graph.output] == [("logits", [1, 5])]


def test_batch_norm_is_folded_away(tmp_path: Path) -> None:
    nodes = written(small_net(), tmp_path / "net.onnx").graph.node
    names = "Conv Clip Conv HardSwish GlobalAveragePool Flatten Gemm HardSigmoid"
    assert [node.op_type for node in nodes] == names.split()


def test_opset_and_ir_version_are_the_recipes(tmp_path: Path) -> None:
    recipe = find_recipe("onnx")
    assert isinstance(recipe, OnnxRecipe)
    model = written(small_net(), tmp_path / "net.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (recipe.opset, recipe.ir_version)


def test_inferred_shapes_are_those_of_the_graph(tmp_path: Path) -> None:
    graph = trace(small_net(), (3, 12, 10))
    write_onnx(graph, tmp_path / "net.onnx")
    inferred = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "net.onnx"), strict_mode=True)
    shapes = {value.name: shape(value) for value in inferred.graph.value_info}
    for node in graph.nodes[:-1]:
        assert shapes[node.name] == list(node.shape)


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    write_onnx(trace(small_net(), (3, 12, 10)), first)
    write_onnx(trace(small_net(), (3, 12, 10)), second)
    assert first.read_bytes() == second.read_bytes()


def test_every_kind_of_node_can_be_emitted() -> None:
    assert set(EMITTERS.functions) == set(Node.__subclasses__())
