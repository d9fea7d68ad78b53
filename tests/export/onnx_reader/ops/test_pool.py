"""Pools with every padding and rounding, and norms over windows and whole maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.networks.onnx_files import Case, case, difference

WINDOWS: list[dict[str, Any]] = [
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 2], "strides": [2, 3], "ceil_mode": 1},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 0, 0, 1]},
    {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2]},
]
ROW = (1, 4, 12)


@pytest.mark.parametrize(
    "example",
    [
        *(case("MaxPool", **window) for window in WINDOWS),
        *(case("AveragePool", **window) for window in WINDOWS),
        *(case("AveragePool", count_include_pad=1, **window) for window in WINDOWS),
        case("MaxPool", kernel_shape=[3, 3], dilations=[2, 2], pads=[1, 1, 1, 1]),
        case("MaxPool", kernel_shape=[3], strides=[2], pads=[1, 0], ceil_mode=1, shape=ROW),
        case("AveragePool", kernel_shape=[3], strides=[2], pads=[1, 1], shape=ROW),
        case("LpPool", kernel_shape=[2, 3], strides=[2, 2]),
        case("LpPool", kernel_shape=[3, 3], p=3, pads=[1, 1, 1, 1]),
        *(case(op) for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")),
        case("GlobalAveragePool", shape=ROW),
    ],
)
def test_a_pool(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5
