"""Convolutions of every padding, stride and dilation are read as ONNX Runtime computes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.networks.onnx_files import Case, case, difference

KERNEL, BIAS = (6, 4, 3, 3), (6,)
TRANSPOSED, LESS = (4, 3, 3, 3), (3,)


@pytest.mark.parametrize(
    "example",
    [
        case("Conv", KERNEL, BIAS),
        case("Conv", KERNEL, strides=[2, 2], auto_pad="SAME_UPPER"),
        case("Conv", KERNEL, strides=[2, 2], auto_pad="SAME_LOWER"),
        case("Conv", KERNEL, auto_pad="VALID"),
        case("Conv", KERNEL, pads=[0, 1, 1, 2]),
        case("Conv", KERNEL, pads=[1, 1, 1, 1], strides=[2, 1]),
        case("Conv", KERNEL, dilations=[2, 2], pads=[2, 2, 2, 2]),
        case("Conv", (4, 1, 3, 3), group=4, pads=[1, 1, 1, 1]),
        case("Conv", (8, 2, 3, 3), (8,), group=2),
        case("Conv", (5, 4, 3), (5,), shape=(1, 4, 12), pads=[1, 2], strides=[2]),
        case("Conv", (5, 4, 3), shape=(1, 4, 12), auto_pad="SAME_LOWER", strides=[2]),
        case("Conv", KERNEL, opset=22, pads=[1, 0, 0, 1]),
    ],
)
def test_a_convolution(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize(
    "example",
    [
        case("ConvTranspose", TRANSPOSED, LESS),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], pads=[1, 1, 1, 1]),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], pads=[1] * 4, output_padding=[1, 1]),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], pads=[0, 0, 1, 1]),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], pads=[1, 0, 0, 1]),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], pads=[2, 2, 0, 0]),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], auto_pad="SAME_UPPER"),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], auto_pad="SAME_LOWER"),
        case("ConvTranspose", TRANSPOSED, strides=[2, 2], output_shape=[18, 21]),
        case("ConvTranspose", TRANSPOSED, strides=[3, 3], output_shape=[28, 31]),
        case(
            "ConvTranspose", TRANSPOSED, strides=[2, 2], output_shape=[18, 20],
            auto_pad="SAME_UPPER",
        ),
        case("ConvTranspose", TRANSPOSED, dilations=[2, 2]),
        case("ConvTranspose", (4, 2, 3, 3), group=2, strides=[2, 2]),
        case("ConvTranspose", (4, 3, 4), LESS, shape=(1, 4, 7), strides=[2], pads=[1, 1]),
    ],
)  # fmt: skip
def test_a_transposed_convolution(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5
