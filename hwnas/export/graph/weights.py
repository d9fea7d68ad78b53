"""Conversion of PyTorch's tensors to the arrays of the compiler's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwnas.export.graph.nodes import Array

CHUNK_WEIGHTS = 1 << 16
"""Number of weights that are scaled at once: few enough for the processor's cache."""


def to_array(tensor: Tensor, dtype: Any = np.float32) -> Any:
    """Return the tensor as an array, read-only where it shares the module's memory."""
    torch_dtype = torch.float32 if dtype is np.float32 else torch.float64
    values = tensor.detach().to("cpu", torch_dtype).contiguous().numpy()
    if values.ctypes.data == tensor.data_ptr():
        values.setflags(write=False)
    return values


def detached_copy(values: Array) -> Array:
    """Copy an array that shares the module's memory; return other arrays unchanged."""
    return values if values.flags.writeable else values.copy()


def scale_weights(weights: Array, scale: Any) -> Array:
    """Multiply by ``scale``, a float64 array ``[len(weights), 1, ...]``, and round to float32."""
    result = np.empty_like(weights)
    step = max(1, CHUNK_WEIGHTS * len(weights) // max(1, weights.size))
    for start in range(0, len(weights), step):
        rows = slice(start, start + step)
        result[rows] = flush_denormals(weights[rows] * scale[rows])
    return result


def flush_denormals(weights: Any) -> Array:
    """Round to float32 and set denormals to 0, which are slow on many processors and have no effect
    on the result."""
    rounded = weights.astype(np.float32)
    rounded[np.abs(rounded) < np.finfo(np.float32).tiny] = 0.0
    return rounded
