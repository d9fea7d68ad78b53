"""The bytes of ONNX files are protobuf's own, and weights are not copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from hwnas.errors import ExportError
from hwnas.export.compile import compile_model
from hwnas.export.graph.nodes import Linear
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.wire import serialised

WEIGHTS: dict[str, Any] = {
    "floats": np.arange(300, dtype=np.float32).reshape(3, 100),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "number": np.array(7, np.int64),
    "halves": np.ones((2, 130), np.float16),
    "levels": np.full((1, 2, 3), -5, np.int8),
    "mask": np.array([True, False]),
    "nothing": np.zeros((0, 4), np.int32),
}


def model_and_graph() -> tuple[Any, Any]:
    node = helper.make_node("Identity", ["x"], ["y"], name="y")
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([node], "net", ends[:1], ends[1:])
    model = onnx.ModelProto(ir_version=9, producer_name="net")
    model.opset_import.append(helper.make_opsetid("", 17))
    helper.set_model_props(model, {"note": "ä", "other": "1"})
    return model, graph


def test_the_bytes_are_those_of_protobuf_and_the_weights_those_that_were_given() -> None:
    data = b"".join(serialised(*model_and_graph(), WEIGHTS))
    model = onnx.load_from_string(data)
    assert model.SerializeToString(deterministic=True) == data
    assert [entry.key for entry in model.metadata_props] == ["note", "other"]
    read = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    assert list(read) == list(WEIGHTS)
    for name, values in WEIGHTS.items():
        assert read[name].dtype == values.dtype
        np.testing.assert_array_equal(read[name], values)


def test_a_compiled_file_is_what_protobuf_would_write(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    compile_model(module, (3, 8, 8), tmp_path / "net.onnx")
    data = (tmp_path / "net.onnx").read_bytes()
    assert onnx.load_from_string(data).SerializeToString(deterministic=True) == data


def test_no_weight_is_copied_from_the_module_to_the_file() -> None:
    module = nn.Linear(64, 32).eval()
    shared = trace(module, (64,), shares_weights=True)
    [node] = [node for node in shared.nodes if isinstance(node, Linear)]
    weight = module.weight.detach().numpy()
    assert np.shares_memory(node.weight, weight)
    pieces = list(serialised(*model_and_graph(), {"weight": node.weight}))
    assert any(
        isinstance(piece, memoryview) and np.shares_memory(np.frombuffer(piece, np.uint8), weight)
        for piece in pieces
    )


def test_a_graph_that_outlives_changes_of_the_module_has_weights_of_its_own() -> None:
    module = nn.Linear(64, 32).eval()
    [node] = [node for node in trace(module, (64,)).nodes if isinstance(node, Linear)]
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight.zero_()
    np.testing.assert_array_equal(node.weight, before.numpy())


def test_a_file_that_protobuf_could_not_read_is_refused() -> None:
    huge = np.broadcast_to(np.float32(0), (2**15, 2**14 + 1))
    with pytest.raises(ExportError, match=r"2\.15 GB are more than the 2 GiB of an \.onnx file"):
        next(serialised(*model_and_graph(), {"weight": huge}))
