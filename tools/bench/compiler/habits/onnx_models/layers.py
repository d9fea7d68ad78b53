"""ONNX models of layers: resizes, pads, convolutions, norms, recurrence, stored weights."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper

from tools.bench.compiler.habits.onnx_models.writing import FLOAT, floats, levels, model, node
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


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

    CASES.add(f"Resize {mode} {how}")(resize)


@CASES.add("Resize by scales with antialias and axes")
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


@CASES.add("Pad with axes and each mode")
def pads() -> ModelProto:
    nodes = [
        node("Pad", "x amounts - axes", "a", mode="reflect"),
        node("Pad", "a amounts value axes", "b"),
        node("Pad", "b amounts - axes", "c", mode="edge"),
        node("Pad", "c amounts - axes", "y", mode="wrap"),
    ]
    constants = {"amounts": [1, 2, 2, 0], "axes": [-1, 2], "value": np.array(0.5, np.float32)}
    return model(nodes, {"x": (1, 2, 5, 6)}, ["y"], constants, 19)


@CASES.add("convolutions with auto_pad and 1-D transposed")
def auto_pad() -> ModelProto:
    nodes = [
        node("Conv", "x w", "a", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("MaxPool", "a", "b", auto_pad="SAME_LOWER", kernel_shape=[3, 3], strides=[2, 2]),
        node("Reshape", "b shape", "c"),
        node("ConvTranspose", "c v", "y", strides=[2], output_padding=[1], pads=[1, 0]),
    ]
    constants = {"w": floats(4, 3, 4, 3), "shape": [1, 4, -1], "v": floats(4, 2, 3)}
    return model(nodes, {"x": (1, 3, 11, 10)}, ["y"], constants)


@CASES.add("three-dimensional convolution")
def volume() -> ModelProto:
    nodes = [node("Conv", "x w", "c", pads=[1] * 6), node("GlobalAveragePool", "c", "y")]
    return model(nodes, {"x": (1, 2, 4, 5, 6)}, ["y"], {"w": floats(3, 2, 3, 3, 3)})


@CASES.add("norms as single operators")
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


@CASES.add("recurrent layers with lengths and initial states")
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


@CASES.add("QDQ network")
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
        "wq": levels(4, 3, 3, 3),
        "ws": np.full(4, 0.004, np.float32),
        "wz": np.zeros(4, np.int8),
        "rs": np.float32(0.02),
        "rz": np.int8(-128),
    }
    return model(nodes, {"x": (1, 3, 6, 6)}, ["y"], constants)


@CASES.add("int8 weights of a float network")
def int8_weights() -> ModelProto:
    nodes = [
        node("DequantizeLinear", "wq ws", "wd"),
        node("Gemm", "x wd b", "y", transB=1, alpha=0.5, beta=2.0),
    ]
    constants = {
        "wq": levels(5, 8),
        "ws": np.float32(0.01),
        "b": floats(5),
    }
    return model(nodes, {"x": (1, 8)}, ["y"], constants)


@CASES.add("half-precision model")
def half() -> ModelProto:
    nodes = [
        node("Cast", "x", "h", to=TensorProto.FLOAT16),
        node("Conv", "h w", "c", strides=[2, 2]),
        node("Cast", "c", "y", to=FLOAT),
    ]
    return model(nodes, {"x": (1, 3, 8, 8)}, ["y"], {"w": floats(4, 3, 3, 3).astype(np.float16)})


@CASES.add("names with slashes, unused initialisers, weights as inputs")
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
