"""Resizing in every mode places its pixels as ONNX Runtime does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.networks.onnx_files import Case, case, difference

COORDINATES = (
    *("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"),
)
SIZES = ((18, 20), (13, 7), (4, 5), (9, 20), (1, 1), (27, 30))
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def sizes(*numbers: int) -> Any:
    return np.array((1, 4, *numbers))


def scales(*numbers: float) -> Any:
    return np.array((1, 1, *numbers), np.float32)


def resized(coordinates: str, *operands: Any, opset: int = 19, **attributes: Any) -> Any:
    attributes["coordinate_transformation_mode"] = coordinates
    return case("Resize", *operands, opset=opset, **attributes)


@pytest.mark.parametrize(
    "example",
    [
        *(
            resized(mode, None, None, sizes(*size), mode=kind)
            for mode in COORDINATES
            for size in SIZES
            for kind in ("linear", "cubic")
        ),
        *(
            resized(mode, None, None, sizes(*size), mode="nearest", nearest_mode=rounding)
            for mode in COORDINATES
            for size in SIZES[:4]
            for rounding in ROUNDINGS
        ),
        *(
            resized(mode, None, scales(1.7, 2.3), mode="linear", opset=13)
            for mode in COORDINATES[:4]
        ),
        case("Resize", None, None, sizes(13, 7), mode="cubic", exclude_outside=1, opset=19),
        case("Resize", None, None, sizes(13, 7), mode="cubic", cubic_coeff_a=-0.5, opset=19),
        case("Resize", None, None, sizes(5, 6), mode="linear", antialias=1, opset=18),
        case("Resize", None, None, sizes(4, 20), mode="cubic", antialias=1, opset=18),
        case("Resize", None, None, np.array((1, 8, 9, 10)), mode="nearest", opset=18),
        case("Resize", None, scales(2, 3)[2:], axes=[2, 3], mode="linear", opset=18),
        *(
            case(
                "Resize", None, None, np.array((5, 20)), axes=[3, 2], mode="linear",
                keep_aspect_ratio_policy=policy, opset=18,
            )
            for policy in ("not_larger", "not_smaller")
        ),
        case("Resize", None, None, np.array((1, 4, 19)), shape=(1, 4, 9), mode="linear"),
    ],
)  # fmt: skip
def test_a_resize(example: Case, tmp_path: Path) -> None:
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factors", [(2, 2), (1.5, 2.5), (0.5, 0.5), (0.7, 1.3)])
def test_a_resize_before_opset_11(mode: str, factors: tuple[float, ...], tmp_path: Path) -> None:
    values = case("Resize", scales(*factors), mode=mode, opset=10).values
    example: Any = values[0]
    assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_takes_its_scales_as_attribute_or_input(mode: str, tmp_path: Path) -> None:
    for values in (
        case("Upsample", scales(1.5, 2), mode=mode, opset=9).values,
        case("Upsample", scales=[1.0, 1.0, 1.5, 2.0], mode=mode, opset=8).values,
    ):
        example: Any = values[0]
        assert difference(example.write(tmp_path / "net.onnx"), example.shape) < 1e-5
