"""ONNX models as other exporters write them: by torch.onnx of two kinds, and node by node."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

CASES: dict[str, tuple[Callable[[], ModelProto], Any]] = {}
FLOAT = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def add(name: str, shapes: Any = None) -> Callable[..., Any]:
    """Return a decorator for a function that makes the model ``name``."""

    def register(make: Callable[[], ModelProto]) -> Callable[[], ModelProto]:
        CASES[name] = (make, shapes)
        return make

    return register


def model(
    nodes: Sequence[NodeProto],
    inputs: dict[str, Sequence[Any]],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 17,
    types: dict[str, int] | None = None,
) -> ModelProto:
    """Return a model; ``constants`` are arrays, numbers and lists of integers."""
    types = types or {}
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info(n, types.get(n, FLOAT), s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, types.get(n, FLOAT), None) for n in outputs],
        [numpy_helper.from_array(array_of(v), n) for n, v in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def array_of(value: Any) -> np.ndarray:
    """Return a constant; Python's integers are of 64 bits."""
    return np.asarray(value)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.4, shape).astype(np.float32)


def node(op: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:
    """Return a node; names are separated by spaces, ``-`` is an input that is left out."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(op, names, outputs.split(), **attributes)


def exported(network: nn.Module, *inputs: Tensor, **options: Any) -> ModelProto:
    """Return the model that ``torch.onnx.export`` writes."""
    torch.manual_seed(0)
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), inputs, file, **options)
    return onnx.load_from_string(file.getvalue())


class Head(nn.Module):
    """Convolutions, a resize to another map's size, a view of the shape, and a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 6, 3, 2, 1)
        self.bn, self.fc = nn.BatchNorm2d(6), nn.Linear(6 * 64, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a = F.silu(self.bn(self.a(x)))
        b = F.interpolate(F.hardswish(self.b(a)), size=a.shape[-2:], mode="bilinear")
        y = (a + b).view(x.size(0), -1)
        return F.softmax(self.fc(y), -1), b


class Attend(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 24, activation="gelu", batch_first=True)
        self.net, self.table = nn.TransformerEncoder(layer, 1), nn.Embedding(10, 12)

    def forward(self, ids: Tensor) -> Tensor:
        return self.net(self.table(ids) + torch.arange(ids.shape[1]).unsqueeze(-1) * 0.1)


IMAGE = torch.zeros(1, 3, 16, 16)
for opset in (11, 13, 17):

    def script_export(opset: int = opset) -> ModelProto:
        axes = {"x": {0: "batch", 2: "height", 3: "width"}}
        return exported(
            Head(), IMAGE, dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes
        )

    add(f"torch script exporter, dynamic axes, opset {opset}", (3, 16, 16))(script_export)


@add("torch dynamo exporter")
def dynamo() -> ModelProto:
    return exported(Head(), IMAGE, dynamo=True)


@add("torch dynamo exporter of an encoder")
def dynamo_encoder() -> ModelProto:
    return exported(Attend(), torch.zeros(1, 7, dtype=torch.long), dynamo=True)


@add("torch script exporter of an encoder", "7:int64")
def script_encoder() -> ModelProto:
    ids = torch.zeros(1, 7, dtype=torch.long)
    axes = {"ids": {0: "batch", 1: "tokens"}}
    return exported(
        Attend(), ids, dynamo=False, opset_version=14, input_names=["ids"], dynamic_axes=axes
    )


@add("torch script exporter of an LSTM with states")
def script_lstm() -> ModelProto:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(5, 4, 2, bidirectional=True, batch_first=True)

        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
            y, (h, c) = self.rnn(x, (h, c))
            return y, h, c

    states = torch.zeros(4, 1, 4)
    return exported(Wrapped(), torch.zeros(1, 6, 5), states, states, dynamo=False, opset_version=14)


for mode, how, nearest in (
    ("nearest", "asymmetric", "floor"),
    ("nearest", "half_pixel", "round_prefer_ceil"),
    ("linear", "align_corners", "round_prefer_floor"),
    ("linear", "pytorch_half_pixel", "round_prefer_floor"),
    ("cubic", "half_pixel", "round_prefer_floor"),
    ("linear", "asymmetric", "floor"),
):

    def resize(mode: str = mode, how: str = how, nearest: str = nearest) -> ModelProto:
        attributes = {"mode": mode, "coordinate_transformation_mode": how, "nearest_mode": nearest}
        return model(
            [node("Resize", "x - - sizes", "y", **attributes)],
            {"x": (1, 3, 7, 6)}, ["y"], {"sizes": [1, 3, 11, 15]},
        )  # fmt: skip

    add(f"Resize {mode} {how}")(resize)


@add("Resize by scales with antialias and axes")
def resize_axes() -> ModelProto:
    attributes = {"mode": "linear", "antialias": 1, "axes": [2, 3]}
    scales = np.array([0.5, 0.6], np.float32)
    return model(
        [node("Resize", "x - scales", "y", **attributes)],
        {"x": (1, 3, 12, 10)},
        ["y"],
        {"scales": scales},
        18,
    )


@add("Pad with axes and each mode")
def pads() -> ModelProto:
    nodes = [
        node("Pad", "x amounts - axes", "a", mode="reflect"),
        node("Pad", "a amounts value axes", "b"),
        node("Pad", "b amounts - axes", "c", mode="edge"),
        node("Pad", "c amounts - axes", "y", mode="wrap"),
    ]
    constants = {"amounts": [1, 2, 2, 0], "axes": [-1, 2], "value": np.array(0.5, np.float32)}
    return model(nodes, {"x": (1, 2, 5, 6)}, ["y"], constants, 19)


@add("reductions with axes as inputs")
def reductions() -> ModelProto:
    ops = ("ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")
    nodes = [node(op, "x axes", f"y{i}", keepdims=i % 2) for i, op in enumerate(ops)]
    nodes.append(node("ReduceSum", "x", "all", noop_with_empty_axes=0))
    return model(
        nodes, {"x": (1, 3, 4, 5)}, [*(f"y{i}" for i in range(5)), "all"], {"axes": [-2, 1]}, 18
    )


@add("slices backwards and uneven splits")
def slices() -> ModelProto:
    nodes = [
        node("Slice", "x starts ends axes steps", "a"),
        node("Split", "a parts", "b c d", axis=-1),
        node("Concat", "d b c", "e", axis=3),
        node("Split", "e", "f g", axis=1, num_outputs=2),
        node("Transpose", "f", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "u", perm=[0, 3, 2, 1]),
        node("Transpose", "u", "y", perm=[1, 0, 3, 2]),
    ]
    constants = {
        "starts": [-1, 6],
        "ends": [-(2**62), 0],
        "axes": [2, -1],
        "steps": [-1, -2],
        "parts": [1, 1, 1],
    }
    return model(nodes, {"x": (1, 5, 4, 7)}, ["y", "g"], constants, 18)


@add("gathers of each kind")
def gathers() -> ModelProto:
    nodes = [
        node("Gather", "x which", "a", axis=1),
        node("GatherElements", "x elements", "b", axis=2),
        node("GatherND", "x places", "c", batch_dims=1),
        node("TopK", "x k", "values indices", axis=-1, largest=0),
        node("GatherElements", "x indices", "d", axis=2),
    ]
    constants = {
        "which": [[-1, 0], [2, 1]], "elements": [[[0, 3], [2, 1], [4, 4]]],
        "places": [[[0, 1], [2, 3]]], "k": [2],
    }  # fmt: skip
    return model(nodes, {"x": (1, 3, 5)}, ["a", "b", "c", "d"], constants)


@add("shapes computed by Shape, Range, Expand, ConstantOfShape", {"x": (3, 6)})
def shape_chain() -> ModelProto:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s two", "n"),
        node("Range", "zero n one", "r"),
        node("Cast", "r", "positions", to=FLOAT),
        node(
            "ConstantOfShape",
            "s",
            "filled",
            value=numpy_helper.from_array(np.array([0.5], np.float32)),
        ),
        node("Expand", "positions s", "wide"),
        node("Mul", "wide filled", "offset"),
        node("Add", "x offset", "sum"),
        node("Slice", "s head tail", "kept"),
        node("Concat", "kept minus", "shape", axis=0),
        node("Reshape", "sum shape", "y"),
    ]
    constants = {"two": 2, "zero": 0, "one": 1, "head": [0], "tail": [1], "minus": [-1]}
    return model(nodes, {"x": ("N", "T", 6)}, ["y"], constants)


@add("clip with inputs, and with one bound")
def clips() -> ModelProto:
    nodes = [
        node("Clip", "x low high", "a"),
        node("Clip", "a - high", "b"),
        node("Clip", "x low", "y"),
    ]
    return model(
        nodes, {"x": (1, 4, 3)}, ["b", "y"], {"low": np.float32(-0.3), "high": np.float32(0.4)}
    )


@add("loop of a fixed number of steps")
def loop() -> ModelProto:
    body = helper.make_graph(
        [node("Identity", "keep", "keep_out"), node("Tanh", "v", "t"), node("Add", "t v", "v_out")],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", FLOAT, [1, 4])],
        [helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v_out", FLOAT, [1, 4])],
    )  # fmt: skip
    return model(
        [node("Loop", "trips true x", "y", body=body)],
        {"x": (1, 4)},
        ["y"],
        {"trips": 3, "true": np.array(True)},
    )


def branch(name: str, op: str) -> GraphProto:
    return helper.make_graph(
        [node(op, "x", name)], name, [], [helper.make_tensor_value_info(name, FLOAT, [1, 4])]
    )


@add("If on a constant condition")
def constant_if() -> ModelProto:
    nodes = [
        node("Shape", "x", "s"),
        node("Size", "s", "rank"),
        node("Equal", "rank two", "c"),
        node("If", "c", "y", then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg")),
    ]
    return model(nodes, {"x": (1, 4)}, ["y"], {"two": 2})


@add("If on the input")
def value_if() -> ModelProto:
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        node("If", "c", "y", then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg")),
    ]
    return model(nodes, {"x": (1, 4)}, ["y"], {"zero": np.float32(0)})


@add("recurrent layers with lengths and initial states")
def recurrent() -> ModelProto:
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("LSTM", "t w r b - h0 c0", "y h c", hidden_size=3, direction="reverse"),
        node(
            "GRU",
            "t gw gr gb",
            "g gh",
            hidden_size=2,
            direction="bidirectional",
            linear_before_reset=1,
        ),
        node("Squeeze", "y one", "out"),
        node("Reshape", "g shape", "flat"),
    ]
    constants = {
        "w": floats(1, 12, 4),
        "r": floats(1, 12, 3),
        "b": floats(1, 24),
        "h0": floats(1, 1, 3),
        "c0": floats(1, 1, 3),
        "gw": floats(2, 6, 4),
        "gr": floats(2, 6, 2),
        "gb": floats(2, 12),
        "one": [1],
        "shape": [5, -1],
    }
    return model(nodes, {"x": (1, 5, 4)}, ["out", "c", "flat", "gh"], constants)


@add("norms as single operators")
def norms() -> ModelProto:
    nodes = [
        node("GroupNormalization", "x scale bias", "a", num_groups=2, epsilon=1e-4),
        node("InstanceNormalization", "a scale bias", "b"),
        node("LayerNormalization", "b ls lb", "y", axis=2),
    ]
    constants = {
        "scale": floats(4) + 1,
        "bias": floats(4),
        "ls": floats(5, 6) + 1,
        "lb": floats(5, 6),
    }
    return model(nodes, {"x": (1, 4, 5, 6)}, ["y"], constants, 21)


@add("QDQ network")
def qdq() -> ModelProto:
    nodes = [
        node("QuantizeLinear", "x xs xz", "xq"),
        node("DequantizeLinear", "xq xs xz", "xd"),
        node("DequantizeLinear", "wq ws wz", "wd", axis=0),
        node("Conv", "xd wd", "c", pads=[1, 1, 1, 1]),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r rs rz", "rq"),
        node("DequantizeLinear", "rq rs rz", "y"),
    ]
    constants = {
        "xs": np.float32(0.03),
        "xz": np.int8(3),
        "wq": RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "ws": np.full(4, 0.004, np.float32),
        "wz": np.zeros(4, np.int8),
        "rs": np.float32(0.02),
        "rz": np.int8(-128),
    }
    return model(nodes, {"x": (1, 3, 6, 6)}, ["y"], constants)


@add("int8 weights of a float network")
def int8_weights() -> ModelProto:
    nodes = [
        node("DequantizeLinear", "wq ws", "wd"),
        node("Gemm", "x wd b", "y", transB=1, alpha=0.5, beta=2.0),
    ]
    constants = {
        "wq": RNG.integers(-127, 128, (5, 8)).astype(np.int8),
        "ws": np.float32(0.01),
        "b": floats(5),
    }
    return model(nodes, {"x": (1, 8)}, ["y"], constants)


@add("half-precision model")
def half() -> ModelProto:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        node("Conv", "h w", "c", strides=[2, 2]),
        node("Cast", "c", "y", to=FLOAT),
    ]
    return model(nodes, {"x": (1, 3, 8, 8)}, ["y"], {"w": floats(4, 3, 3, 3).astype(np.float16)})


@add("names with slashes, unused initialisers, weights as inputs")
def old_names() -> ModelProto:
    made = model(
        [
            node("MatMul", "/input/x /layer.0/weight", "/layer.0/MatMul_output_0"),
            node("Add", "/layer.0/MatMul_output_0 /layer.0/bias", "/out/logits:0"),
        ],
        {"/input/x": ("batch_size", 6)},
        ["/out/logits:0"],
        {"/layer.0/weight": floats(6, 3), "/layer.0/bias": floats(3), "onnx::unused_17": floats(9)},
        11,
    )
    for tensor in made.graph.initializer[:2]:
        made.graph.input.append(helper.make_tensor_value_info(tensor.name, FLOAT, tensor.dims))
    return made


@add("convolutions with auto_pad and 1-D transposed")
def auto_pad() -> ModelProto:
    nodes = [
        node("Conv", "x w", "a", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("MaxPool", "a", "b", auto_pad="SAME_LOWER", kernel_shape=[3, 3], strides=[2, 2]),
        node("Reshape", "b shape", "c"),
        node("ConvTranspose", "c v", "y", strides=[2], output_padding=[1], pads=[1, 0]),
    ]
    constants = {"w": floats(4, 3, 4, 3), "shape": [1, 4, -1], "v": floats(4, 2, 3)}
    return model(nodes, {"x": (1, 3, 11, 10)}, ["y"], constants)


@add("detection post-processing with NonMaxSuppression")
def suppression() -> ModelProto:
    nodes = [node("NonMaxSuppression", "boxes scores count iou score", "y")]
    constants = {
        "count": [3],
        "iou": np.array([0.5], np.float32),
        "score": np.array([0.1], np.float32),
    }
    return model(
        nodes,
        {"boxes": (1, 6, 4), "scores": (1, 2, 6)},
        ["y"],
        constants,
        types={"y": TensorProto.INT64},
    )


@add("einsum, trilu, cumsum, where, mod")
def algebra() -> ModelProto:
    nodes = [
        node("Einsum", "x w", "e", equation="bij,jk->bik"),
        node("Trilu", "e k", "t", upper=0),
        node("CumSum", "t axis", "s", reverse=1, exclusive=1),
        node("Greater", "s e", "g"),
        node("Where", "g s e", "p"),
        node("Mod", "p two", "y", fmod=1),
    ]
    constants = {
        "w": floats(4, 4),
        "k": np.array(1),
        "axis": np.array(1),
        "two": np.float32(0.3),
    }
    return model(nodes, {"x": (1, 4, 4)}, ["y"], constants)


@add("one-hot and scatter of computed places")
def scatter() -> ModelProto:
    nodes = [
        node("ArgMax", "x", "i", axis=-1, keepdims=0),
        node("OneHot", "i depth values", "hot", axis=-1),
        node("Unsqueeze", "i last", "places"),
        node("ScatterElements", "x places updates", "s", axis=2, reduction="add"),
        node("Add", "hot s", "y"),
    ]
    constants = {
        "depth": np.array(5),
        "values": np.array([0, 1], np.float32),
        "last": [2],
        "updates": floats(1, 3, 1),
    }
    return model(nodes, {"x": (1, 3, 5)}, ["y"], constants)


@add("three-dimensional convolution")
def volume() -> ModelProto:
    nodes = [node("Conv", "x w", "c", pads=[1] * 6), node("GlobalAveragePool", "c", "y")]
    return model(nodes, {"x": (1, 2, 4, 5, 6)}, ["y"], {"w": floats(3, 2, 3, 3, 3)})


@add("complex: a Fourier transform as an operator")
def fourier() -> ModelProto:
    nodes = [
        node("Unsqueeze", "x last", "u"),
        node("DFT", "u", "f", axis=2, onesided=1),
        node("ReduceL2", "f", "y", axes=[3]),
    ]
    return model(nodes, {"x": (1, 3, 16)}, ["y"], {"last": [3]})
