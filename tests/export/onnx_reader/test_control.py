"""Branches and loops whose conditions and numbers of steps are known are written out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, TensorProto, helper

from hwnas.errors import ExportError
from hwnas.export.compile import export_module
from hwnas.export.graph.trace import trace
from hwnas.export.verification.run_model import file_outputs
from hwnas.networks.onnx_file import load_onnx
from tests.support.networks.onnx_files import save

BOOL, INT64, FLOAT = TensorProto.BOOL, TensorProto.INT64, TensorProto.FLOAT


def value(name: str, kind: int, *shape: int) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def loop(condition: NodeProto, count: str = "count", going: str = "true") -> list[NodeProto]:
    """Return a loop that doubles ``v``, adds ``x`` and the number of the step, and stacks it."""
    body = helper.make_graph(
        [
            condition,
            helper.make_node("Cast", ["i"], ["number"], to=FLOAT),
            helper.make_node("Add", ["v", "v"], ["twice"]),
            helper.make_node("Sum", ["twice", "x", "number"], ["v_out"]),
            helper.make_node("Identity", ["v_out"], ["series"]),
        ],
        "body",
        [value("i", INT64), value("going", BOOL), value("v", FLOAT, 1, 3)],
        [value("going_out", BOOL), value("v_out", FLOAT, 1, 3), value("series", FLOAT, 1, 3)],
    )
    stack = helper.make_node("ReduceSum", ["all"], ["total"], keepdims=0)
    return [
        helper.make_node("Loop", [count, going, "x"], ["last", "all"], name="the_loop", body=body),
        stack,
        helper.make_node("Add", ["last", "total"], ["y"]),
    ]


GOES_ON = helper.make_node("Identity", ["going"], ["going_out"])
UP_TO_TWO = helper.make_node("Less", ["i", "two"], ["going_out"])
CONSTANTS = {"count": np.int64(3), "true": np.array(True), "two": np.int64(2)}


@pytest.mark.parametrize(
    ("condition", "count", "steps"),
    [(GOES_ON, 4, 4), (UP_TO_TWO, 2, 2), (UP_TO_TWO, 9, 3), (UP_TO_TWO, None, 3)],
)
def test_a_loop_of_known_steps_is_written_out(
    condition: NodeProto, count: int | None, steps: int, tmp_path: Path
) -> None:
    constants = CONSTANTS | {"count": np.int64(count or 0)}
    nodes = loop(condition, "" if count is None else "count")
    network, interface = load_onnx(save(tmp_path / "loop.onnx", nodes, (1, 3), constants))
    export_module(network, interface, tmp_path / "loop.tflite")
    x = np.array([[1.0, 2.0, -3.0]], np.float32)
    v, total = x, 0.0
    for step in range(steps):
        v = 2 * v + x + step
        total += v.sum()
    np.testing.assert_allclose(file_outputs(tmp_path / "loop.tflite", x), v + total, rtol=1e-5)


def test_a_loop_that_depends_on_values_is_refused(tmp_path: Path) -> None:
    grows = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
    ]
    constants = CONSTANTS | {"zero": np.float32(0)}
    nodes = [*grows, *loop(GOES_ON, going="positive")]
    network, interface = load_onnx(save(tmp_path / "loop.onnx", nodes, (1, 3), constants))
    with pytest.raises(ExportError, match=r"'the_loop' \(Loop\) takes a condition that depends"):
        export_module(network, interface, tmp_path / "loop.tflite")


def test_a_loop_of_many_steps_is_refused(tmp_path: Path) -> None:
    constants = CONSTANTS | {"count": np.int64(1001)}
    nodes = loop(GOES_ON)
    network, interface = load_onnx(save(tmp_path / "loop.onnx", nodes, (1, 3), constants))
    with pytest.raises(ExportError, match=r"'the_loop' \(Loop\) has more than 1000 steps"):
        trace(network, interface)


@pytest.mark.parametrize(
    ("op", "message"),
    [
        ("NonMaxSuppression", "is not supported; leave it out with onnx.utils.extract_model"),
        ("RandomNormalLike", "draws random numbers; leave it out"),
        ("Covn", "is no operator of ONNX; is 'Conv' meant?"),
    ],
)
def test_what_can_be_done_about_an_operator_is_said(op: str, message: str, tmp_path: Path) -> None:
    path = save(tmp_path / "net.onnx", [helper.make_node(op, ["x", "x"], ["y"])], (1, 3))
    with pytest.raises(ExportError) as caught:
        load_onnx(path)
    assert message in str(caught.value)
