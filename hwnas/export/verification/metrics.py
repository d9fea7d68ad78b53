"""How far the outputs of a file are from PyTorch's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hwnas.errors import ExportError

Array = np.ndarray[Any, Any]


def check_logits(path: Path, got: Array, expected: Array) -> None:
    """Raise unless the file and PyTorch give logits ``[N, classes]``, both the same number."""
    if expected.ndim != 2:
        raise ExportError(
            f"{path}: the network gives {list(expected.shape)}; only logits [N, classes] can be "
            "verified"
        )
    if got.shape != expected.shape:
        raise ExportError(
            f"{path}: gives outputs {list(got.shape)} for PyTorch's {list(expected.shape)}"
        )


def relative_error(got: Array, expected: Array) -> float:
    """Return ``max|got - expected| / max|expected|`` over everything."""
    difference = float(np.abs(got - expected).max())
    return difference / float(np.abs(expected).max()) if difference else 0.0
