"""Peak memory of a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwnas.devices.runners.memory import peak_memory
from hwnas.errors import InvalidFile

NetWriter = Callable[..., Path]


def test_a_larger_model_takes_more_memory(tmp_path: Path, write_net: NetWriter) -> None:
    small = write_net(tmp_path / "small.onnx")
    large = write_net(tmp_path / "large.onnx", channels=512, layers=4)
    a, b = peak_memory([(small, "onnxruntime"), (large, "onnxruntime")], 1)
    assert b.model_bytes > a.model_bytes + 4 * 3 * 512 * 512 * 9
    assert a.empty_bytes == b.empty_bytes > 1e7


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_a_file_that_is_no_model_is_named_by_the_memory_probe(tmp_path: Path, runtime: Any) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"no model")
    with pytest.raises(InvalidFile, match="broken: "):
        peak_memory([(broken, runtime)], 1)
