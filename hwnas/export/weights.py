"""From PyTorch's tensors to the arrays of the compiler's graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hwnas.export.nodes import Array


def array(tensor: Tensor, dtype: Any = np.float32) -> Any:
    """Return a copy, so that a later change of the module does not reach the graph."""
    kind = torch.float32 if dtype is np.float32 else torch.float64
    return tensor.detach().to("cpu", kind, copy=True).contiguous().numpy()


def normal(weights: Any) -> Array:
    """Round to float32; what would be denormal (slow on many processors, no effect) becomes 0."""
    rounded = weights.astype(np.float32)
    rounded[np.abs(rounded) < np.finfo(np.float32).tiny] = 0.0
    return rounded
