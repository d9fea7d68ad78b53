"""Reshapes, permutations, pieces and padding, in the forms of several versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from hwnas.export.compile import compile_model
from hwnas.networks.onnx_file import load_onnx
from tests.support.networks.onnx_files import Case, case, difference, noise, save

END = 2**63 - 1
BLOCKS = (1, 12, 3, 4)
PLACES = np.random.default_rng(0)


def ints(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    "example",
    [
        case("Reshape", ints(0, -1)),
        case("Reshape", ints(1, 4, -1)),
        case("Reshape", ints(0, 0, 90)),
        *(case("Flatten", axis=axis) for axis in (1, 2, 0, -1)),
        case("Squeeze", axes=[0], opset=11),
        case("Squeeze", ints(0)),
        case("Squeeze", shape=(1, 1, 5, 1)),
        case("Unsqueeze", axes=[0, 2], opset=11),
        case("Unsqueeze", ints(-1)),
        case("Unsqueeze", ints(5, 1)),
        case("Transpose"),
        case("Transpose", perm=[0, 2, 3, 1]),
        case("Expand", ints(3, 1, 1, 10), shape=(1, 4, 1, 10)),
        case("Expand", ints(1)),
        case("Tile", ints(1, 2, 1, 3)),
        case("DepthToSpace", blocksize=2, mode="DCR", shape=BLOCKS),
        case("DepthToSpace", blocksize=2, mode="CRD", shape=BLOCKS),
        case("DepthToSpace", blocksize=2, shape=BLOCKS, opset=9),
        case("SpaceToDepth", blocksize=2, shape=(1, 3, 6, 4)),
        case("Cast", to=1),
    ],
)
def test_an_operator_on_axes(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        case("Concat", (1, 2, 9, 10), axis=1),
        case("Concat", (1, 4, 9, 1), axis=-1, x_at=1),
        case("Split", ints(1, 3), axis=1, outputs=["z", "y"]),
        case("Split", axis=1, outputs=["y", "z"]),
        case("Split", axis=3, outputs=["z", "w", "y"], num_outputs=3, opset=18),
        case("Split", axis=1, split=[3, 1], outputs=["z", "y"], opset=11),
        case("Slice", ints(1, 2), ints(3, END), ints(1, 3)),
        case("Slice", ints(-1), ints(-END - 1), ints(2), ints(-1)),
        case("Slice", ints(0), ints(END), ints(3), ints(3)),
        case("Slice", ints(8), ints(0), ints(2), ints(-3)),
        case("Slice", ints(100), ints(-100), ints(1), ints(-2)),
        case("Slice", ints(-3), ints(-1), ints(-1)),
        case("Slice", starts=[1, 0], ends=[-1, 5], axes=[2, 3], opset=9),
        case("Gather", ints(2, 0, -1), axis=1),
        case("Gather", np.array(1), axis=1),
        case("Gather", ints(1, 0, 3, 2).reshape(2, 2), axis=-1),
        case("GatherElements", PLACES.integers(-9, 9, (1, 4, 3, 10)), axis=2),
        case("GatherND", ints(0, 1, 0, 3).reshape(1, 2, 2)),
        case("GatherND", ints(1, 2, 3).reshape(1, 3), batch_dims=1),
        case("ScatterND", ints(0, 1, 0, 3).reshape(2, 2), (2, 9, 10)),
        case("ScatterND", ints(0, 1, 2, 3).reshape(1, 4), (1,)),
        case("ScatterElements", np.full((1, 4, 1, 10), 3), (1, 4, 1, 10), axis=2),
        case("Trilu"),
        case("Trilu", np.array(-1), upper=0),
        case("ReverseSequence", ints(4), time_axis=1, batch_axis=0),
    ],
)
def test_a_piece(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        case("Pad", ints(0, 0, 1, 2, 0, 0, 3, 4)),
        case("Pad", ints(0, 1, 1, 0, 0, 0, -1, 2), np.float32(1.5)),
        case("Pad", ints(1, 2), None, ints(-1), opset=18),
        case("Pad", pads=[0, 0, 0, 1, 0, 0, 0, 0], value=2.0, opset=7),
        case("Pad", pads=[0, 0, 1, 1, 0, 0, 1, 1], mode="reflect", opset=10),
        *(
            case("Pad", ints(*amounts), mode=mode, opset=19)
            for mode in ("reflect", "edge", "wrap")
            for amounts in ((0, 0, 1, 2, 0, 0, 3, 4), (0, 1, 1, 2, 0, 2, 3, 0))
        ),
    ],
)
def test_a_padding(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "last",
    [
        helper.make_node("GatherElements", ["x", "best"], ["y"], axis=3),
        helper.make_node("Gather", ["x", "best"], ["y"], axis=3),
        helper.make_node("GatherND", ["x", "best"], ["y"], batch_dims=3),
        helper.make_node("ScatterElements", ["x", "best", "new"], ["y"], axis=3),
        helper.make_node("ScatterElements", ["x", "best", "new"], ["y"], axis=3, reduction="add"),
    ],
    ids=lambda node: f"{node.op_type}-{len(node.attribute)}",
)
def test_places_may_be_computed(last: Any, tmp_path: Path) -> None:
    shape = (1, 4, 9, 10)
    best = helper.make_node("ArgMax", ["x"], ["best"], axis=3)
    path = save(tmp_path / "net.onnx", [best, last], shape, {"new": noise((1, 4, 9, 1))})
    assert difference(path, shape) < 1e-6
    compile_model(*load_onnx(path), tmp_path / "net.tflite")


def test_what_is_written_at_constant_places_may_be_added(tmp_path: Path) -> None:
    places = ints(0, 1, 0, 3, 0, 1).reshape(3, 2)  # the first place twice
    constants = {"places": places, "new": noise((3, 9, 10))}
    add = helper.make_node("ScatterND", ["x", "places", "new"], ["y"], reduction="add")
    path = save(tmp_path / "net.onnx", [add], (1, 4, 9, 10), constants)
    assert difference(path, (1, 4, 9, 10)) < 1e-6
    compile_model(*load_onnx(path), tmp_path / "net.tflite")
