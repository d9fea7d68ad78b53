"""The table of runtimes: formats, suffixes and axis orders agree with each other."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.architecture.runtimes import COMPILED, RUNTIMES, Runtime
from hwnas.errors import UsageError
from hwnas.export.recipe import find_recipe

runtimes = pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)


@runtimes
def test_axis_orders_and_shapes_are_inverse(runtime: Runtime) -> None:
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    inputs = runtime.from_nchw(images)
    assert inputs.shape == runtime.batch_shape((3, 4, 5), batch=2)
    assert runtime.image_shape(inputs.shape) == (3, 4, 5)
    np.testing.assert_array_equal(runtime.to_nchw(inputs), images)


def test_litert_puts_channels_last() -> None:
    assert RUNTIMES["litert"].batch_shape((3, 4, 5)) == (1, 4, 5, 3)
    assert RUNTIMES["onnxruntime"].batch_shape((3, 4, 5)) == (1, 3, 4, 5)


def test_formats_lead_to_the_runtime_of_their_recipe() -> None:
    for format, runtime in COMPILED.items():
        recipe = find_recipe(format)
        assert (runtime.format, runtime.suffix) == (format, f".{format}")
        assert (recipe.runtime, recipe.layout) == (runtime.name, runtime.layout)


def test_a_runtime_without_a_compiler_is_reported() -> None:
    with pytest.raises(UsageError, match=r"no \.pt2 files for PyTorch, only onnx, tflite"):
        _ = RUNTIMES["torch"].format
