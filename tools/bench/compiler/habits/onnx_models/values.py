"""ONNX models of values and shapes: slices, gathers, reductions, loops, branches."""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from tools.bench.compiler.habits.onnx_models.writing import FLOAT, floats, model, node
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("reductions with axes as inputs")
def reductions() -> ModelProto:
    ops = ("ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare")
    nodes = [node(op, "x axes", f"y{i}", keepdims=i % 2) for i, op in enumerate(ops)]
    nodes.append(node("ReduceSum", "x", "all", noop_with_empty_axes=0))
    return model(
        nodes, {"x": (1, 3, 4, 5)}, [*(f"y{i}" for i in range(5)), "all"], {"axes": [-2, 1]}, 18
    )


@CASES.add("slices backwards and uneven splits")
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


@CASES.add("gathers of each kind")
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


@CASES.add("shapes computed by Shape, Range, Expand, ConstantOfShape", {"x": (3, 6)})
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


@CASES.add("clip with inputs, and with one bound")
def clips() -> ModelProto:
    nodes = [
        node("Clip", "x low high", "a"),
        node("Clip", "a - high", "b"),
        node("Clip", "x low", "y"),
    ]
    return model(
        nodes, {"x": (1, 4, 3)}, ["b", "y"], {"low": np.float32(-0.3), "high": np.float32(0.4)}
    )


@CASES.add("loop of a fixed number of steps")
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


@CASES.add("If on a constant condition")
def constant_if() -> ModelProto:
    nodes = [
        node("Shape", "x", "s"),
        node("Size", "s", "rank"),
        node("Equal", "rank two", "c"),
        node("If", "c", "y", then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg")),
    ]
    return model(nodes, {"x": (1, 4)}, ["y"], {"two": 2})


@CASES.add("If on the input")
def value_if() -> ModelProto:
    nodes = [
        node("ReduceSum", "x", "s", keepdims=0),
        node("Greater", "s zero", "c"),
        node("If", "c", "y", then_branch=branch("a", "Relu"), else_branch=branch("b", "Neg")),
    ]
    return model(nodes, {"x": (1, 4)}, ["y"], {"zero": np.float32(0)})


@CASES.add("detection post-processing with NonMaxSuppression")
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


@CASES.add("einsum, trilu, cumsum, where, mod")
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


@CASES.add("one-hot and scatter of computed places")
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


@CASES.add("complex: a Fourier transform as an operator")
def fourier() -> ModelProto:
    nodes = [
        node("Unsqueeze", "x last", "u"),
        node("DFT", "u", "f", axis=2, onesided=1),
        node("ReduceL2", "f", "y", axes=[3]),
    ]
    return model(nodes, {"x": (1, 3, 16)}, ["y"], {"last": [3]})
