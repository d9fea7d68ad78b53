"""Functions of each element, arithmetic and reductions, in the forms of several versions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.networks.onnx_files import Case, case, difference

PLAIN = (
    *("Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Exp", "Abs", "Neg", "Reciprocal", "Sin"),
    *("Cos", "Floor", "Ceil", "Round", "Sign", "Erf", "LeakyRelu", "Elu", "Celu", "Selu", "Mish"),
    *("HardSigmoid", "Softsign", "ThresholdedRelu", "Shrink", "Softmax", "LogSoftmax"),
)
PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
REDUCTIONS = (
    *("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceSumSquare", "ReduceLogSumExp"),
)


def number(value: float) -> Any:
    return np.float32(value)


def axes(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


@pytest.mark.parametrize(
    "example",
    [
        *(case(op, opset=18) for op in PLAIN),
        case("Gelu", opset=20),
        case("Gelu", opset=20, approximate="tanh"),
        case("com.microsoft.Gelu"),
        case("com.microsoft.FastGelu"),
        case("com.microsoft.QuickGelu", alpha=1.702),
        case("HardSigmoid", alpha=1 / 6, beta=0.5),
        case("LeakyRelu", alpha=0.3),
        case("Elu", alpha=0.5),
        case("Selu", alpha=1.0, gamma=2.0),
        case("Shrink", bias=0.2, lambd=0.3),
        case("Swish", opset=24, alpha=2.0),
        case("PRelu", (4, 1, 1)),
        case("PRelu", (1,)),
        case("PRelu", (4, 9, 10)),
        case("PRelu", (10,)),
        case("PRelu", (10,), shape=(1, 10)),
        case("Clip", number(0), number(6)),
        case("Clip", number(-1), None),
        case("Clip", None, number(0.5)),
        case("Clip", opset=7, min=0.0, max=6.0),
        case("Clip", opset=10, max=0.3),
    ],
)
def test_a_function(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        case(op, axis=axis, opset=opset)
        for op in ("Softmax", "LogSoftmax")
        for axis in (0, 1, 2, 3, -1)
        for opset in (11, 13)
    ],
)
def test_softmax_is_over_all_axes_behind_in_old_versions(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        *(case(op, (4, 1, 1)) for op in PAIRS),
        *(case(op, number(2.5)) for op in PAIRS),
        *(case(op, (10,), x_at=1) for op in PAIRS),
        case("Add", (2, 1, 1, 1, 1)),
        case("Max", (4, 1, 1), (10,), number(0.1)),
        *(case("Pow", number(exponent)) for exponent in (2, -1, 3)),
        case("Pow", number(2), x_at=1),
        case("Mod", number(0.7), fmod=1),
    ],
)
def test_arithmetic(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        *(case(op, axes=[1], keepdims=0, opset=11) for op in REDUCTIONS),
        *(case(op, axes=[-1, 1], opset=13) for op in REDUCTIONS),
        *(case(op, axes(2, 3), opset=18) for op in REDUCTIONS),
        *(case(op, opset=18, keepdims=0) for op in REDUCTIONS),
        *(case(op, axes(), noop_with_empty_axes=1, opset=18) for op in REDUCTIONS),
        case("ReduceSum", axes=[2, 3], opset=11),
        case("ReduceSum", axes(1), keepdims=0, opset=13),
        case("CumSum", np.array(1)),
        case("CumSum", np.array(2), exclusive=1, reverse=1),
    ],
)
def test_a_reduction(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5
