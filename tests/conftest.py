"""Environment of all tests, and tiny networks as files of both formats, without the compiler."""

from __future__ import annotations

import os
import sys
import tempfile

# tests write to a temporary folder instead of the user's
os.environ["HWNAS_HOME"] = tempfile.mkdtemp(prefix="hwnas-tests-")

# matrices are small: threads that wait for each other cost minutes on a busy machine
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let PyTorch compute with one thread, and skip tests of the marker ``gpu`` without CUDA.

    Sums of several threads have other bits, and autograd's threads for other devices keep the
    number of threads that the first backward pass of the process has. `make test-gpu` fails tests
    that are skipped here.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        stop = pytest.fail if os.environ.get("HWNAS_NEEDS_GPU") else pytest.skip
        stop("needs a CUDA device")


NetWriter = Callable[..., Path]
"""``write(path, channels=8, layers=2, depthwise=False, size=16)``; the suffix is the format."""


@pytest.fixture
def write_net() -> NetWriter:
    """Write a chain of 3x3 convolutions with ReLU and random weights, as .onnx or .tflite."""
    return write_chain


def write_chain(
    path: Path, channels: int = 8, layers: int = 2, depthwise: bool = False, size: int = 16
) -> Path:
    rng = np.random.default_rng(0)
    weights: list[np.ndarray] = []
    for layer in range(layers):
        inputs = 1 if depthwise and layer else channels if layer else 3
        weights.append(rng.normal(0, 0.1, (channels, inputs, 3, 3)).astype(np.float32))
    if path.suffix == ".onnx":
        _write_onnx(path, weights, size)
    else:
        path.write_bytes(_tflite_bytes(weights, size))
    return path


def _write_onnx(path: Path, weights: list[np.ndarray], size: int) -> None:
    onnx = pytest.importorskip("onnx")
    helper, nodes = onnx.helper, []
    for layer, weight in enumerate(weights):
        groups = len(weight) if layer and weight.shape[1] == 1 else 1
        inputs = [f"x{layer}", f"w{layer}"]
        conv = helper.make_node("Conv", inputs, [f"c{layer}"], pads=[1, 1, 1, 1], group=groups)
        nodes += [conv, helper.make_node("Relu", [f"c{layer}"], [f"x{layer + 1}"])]
    channels, kind = len(weights[0]), onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", kind, [1, 3, size, size])],
        [helper.make_tensor_value_info(f"x{len(weights)}", kind, [1, channels, size, size])],
        [onnx.numpy_helper.from_array(w, f"w{layer}") for layer, w in enumerate(weights)],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def _tflite_bytes(weights: list[np.ndarray], size: int) -> bytes:
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers: Any = pytest.importorskip("flatbuffers")
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    graph.tensors, graph.operators = [], []

    def tensor(shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = f"t{len(graph.tensors)}", shape, 0, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    model.operatorCodes = [_code(schema, "CONV_2D"), _code(schema, "DEPTHWISE_CONV_2D")]
    last = tensor((1, size, size, 3))
    graph.inputs = [last]
    for layer, weight in enumerate(weights):
        depthwise = layer > 0 and weight.shape[1] == 1
        order = (1, 2, 3, 0) if depthwise else (0, 2, 3, 1)
        filters = weight.transpose(order)
        bias = np.zeros(len(weight), np.float32)
        operator = schema.OperatorT()
        operator.opcodeIndex = int(depthwise)
        operator.inputs = [last, tensor(filters.shape, filters), tensor(bias.shape, bias)]
        last = tensor((1, size, size, len(weight)))
        operator.outputs = [last]
        name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        options = getattr(schema, f"{name}T")()
        options.padding, options.strideH, options.strideW = schema.Padding.SAME, 1, 1
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        if depthwise:
            options.depthMultiplier = 1
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        operator.builtinOptions = options
        graph.operators.append(operator)
    graph.outputs = [last]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _code(schema: Any, name: str) -> Any:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 1
    return code
