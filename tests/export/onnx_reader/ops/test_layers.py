"""Norms, linear layers and recurrent layers, with every setting that their operators have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.networks.onnx_files import Case, case, difference

VARIANCE = np.linspace(0.5, 2, 4, dtype=np.float32)
ROW, MATRIX, SEQUENCE = (1, 12), (5, 12), (6, 1, 5)


@pytest.mark.parametrize(
    "example",
    [
        case("BatchNormalization", (4,), (4,), (4,), VARIANCE, epsilon=1e-3),
        case("BatchNormalization", (4,), (4,), (4,), VARIANCE, shape=(1, 4)),
        case("BatchNormalization", (4,), (4,), (4,), VARIANCE, shape=(1, 4, 7), opset=8),
        case("InstanceNormalization", (4,), (4,)),
        case("InstanceNormalization", (4,), (4,), shape=(1, 4, 7)),
        case("LayerNormalization", (10,), (10,)),
        case("LayerNormalization", (4, 9, 10), (4, 9, 10), axis=1),
        case("LayerNormalization", (10,), axis=-1, epsilon=1e-2),
        case("GroupNormalization", (2,), (2,), num_groups=2, opset=18),
        case("GroupNormalization", (4,), (4,), num_groups=2, opset=21),
        case("RMSNormalization", (10,), opset=23),
        case("LpNormalization", axis=1),
        case("LpNormalization", axis=-1, p=1),
        case("LRN", size=3),
        case("LRN", size=5, alpha=0.1, bias=2.0, beta=0.5),
        case("MeanVarianceNormalization"),
    ],
)
def test_a_norm(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        case("Gemm", (12, 7), (7,), shape=ROW),
        case("Gemm", (7, 12), (1, 7), transB=1, alpha=0.5, beta=2.0, shape=ROW),
        case("Gemm", (12, 7), np.float32(2), shape=ROW),
        case("Gemm", (12, 7), shape=ROW),
        case("Gemm", (5, 12), (5, 1), x_at=1, transB=1, shape=(7, 12)),
        case("Gemm", (5, 7), (12, 7), transA=1, shape=MATRIX),
        case("Gemm", (12, 5), (5, 1), shape=MATRIX),
        case("MatMul", (10, 5)),
        case("MatMul", (3, 9), x_at=1),
        case("MatMul", (4, 10, 5)),
        case("MatMul", (10,)),
        case("Einsum", (10, 5), equation="bchw,wo->bcho"),
        case("com.microsoft.FusedMatMul", (5, 10), transB=1, alpha=0.3),
    ],
)
def test_a_linear_layer(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_a_recurrent_layer(op: str, direction: str, tmp_path: Path) -> None:
    both, size = 2 if direction == "bidirectional" else 1, GATES[op] * 3
    operands = ((both, size, 5), (both, size, 3), (both, 2 * size), None, (both, 1, 3))
    settings = [{}] if op != "GRU" else [{"linear_before_reset": flag} for flag in (0, 1)]
    for setting in settings:
        parameter = case(
            op, *operands, shape=SEQUENCE, hidden_size=3, direction=direction, **setting
        )
        example: Case = parameter.values[0]
        assert difference(example.write(tmp_path / "net.onnx"), SEQUENCE) < 1e-5


def test_the_last_state_of_a_recurrent_layer(tmp_path: Path) -> None:
    parameter = case(
        "LSTM", (1, 12, 5), (1, 12, 3), shape=SEQUENCE, hidden_size=3, outputs=["", "", "y"]
    )
    example: Case = parameter.values[0]
    assert difference(example.write(tmp_path / "net.onnx"), SEQUENCE) < 1e-5
