"""Verification of int8 files, by the classes that they predict.

Rounding to 8 bits changes every logit, so the error limit of float files does not apply. What
counts is how often file and float32 network predict the same class, and the accuracy lost.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Parity
from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import check_logits, parity
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs


def verify_int8(
    path: Path, module: nn.Module, verification: Verification, quantization: Quantization
) -> Parity:
    """Compare an int8 file with its float32 ``module``.

    Raises `ExportError` if an output is not finite, if they predict the same class too rarely, or
    if the file loses more accuracy than ``quantization`` allows.
    """
    result = compare_int8(path, module, verification)
    if result.accuracy_torch - result.accuracy_artifact > quantization.max_drop:
        raise ExportError(
            f"{path}: the int8 file has accuracy {result.accuracy_artifact:.2%} on "
            f"{result.images} images, float32 {result.accuracy_torch:.2%}; the largest loss "
            f"allowed is {quantization.max_drop:.2%}"
        )
    if (result.label_agreement or 0.0) < quantization.min_label_agreement:
        raise ExportError(
            f"{path}: the int8 file predicts the same class as float32 on only "
            f"{result.label_agreement:.2%} of {result.images} images; the limit is "
            f"{quantization.min_label_agreement:.2%}"
        )
    return result


def compare_int8(path: Path, module: nn.Module, verification: Verification) -> Parity:
    """Return how a file compares with ``module``, checking only that its outputs are finite."""
    expected = torch_outputs(module, verification.images)
    outputs = file_outputs(path, verification.images)
    check_logits(path, outputs, expected)
    if not np.isfinite(outputs).all():
        raise ExportError(f"{path}: gives a value that is not finite")
    return parity(outputs, expected, verification.labels)
