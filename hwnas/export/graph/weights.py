"""From PyTorch's tensors to the arrays of the compiler's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwnas.export.graph.nodes import Array

CHUNK = 1 << 16
"""Weights that are computed at once: few enough for the processor's cache."""


def array(tensor: Tensor, dtype: Any = np.float32) -> Any:
    """Return the tensor's values; read-only where they are the module's own memory."""
    kind = torch.float32 if dtype is np.float32 else torch.float64
    values = tensor.detach().to("cpu", kind).contiguous().numpy()
    if values.ctypes.data == tensor.data_ptr():
        values.setflags(write=False)
    return values


def own(values: Array) -> Array:
    """Return a copy of what is the module's memory, so that its later changes stay there."""
    return values if values.flags.writeable else values.copy()


def scaled(weights: Array, scale: Any) -> Array:
    """Multiply along the first axis by ``scale``, float64, whose other axes are of size 1."""
    found = np.empty_like(weights)
    step = max(1, CHUNK * len(weights) // max(1, weights.size))
    for at in range(0, len(weights), step):
        found[at : at + step] = normal(weights[at : at + step] * scale[at : at + step])
    return found


def normal(weights: Any) -> Array:
    """Round to float32; what would be denormal (slow on many processors, no effect) becomes 0."""
    rounded = weights.astype(np.float32)
    rounded[np.abs(rounded) < np.finfo(np.float32).tiny] = 0.0
    return rounded
