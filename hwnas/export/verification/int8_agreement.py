"""Verification of int8 files, by the classes that they predict and the noise in their outputs.

Rounding to 8 bits changes every logit, so the error limit of float files does not apply. What
counts is how often file and float32 network predict the same class, and the accuracy lost. For
networks that predict a single class, as untrained ones, the noise in the logits counts as well.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.artifact import Parity
from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array, check_logits, parity, sqnr_db
from hwnas.export.verification.run_model import file_outputs
from hwnas.export.verification.verify import torch_outputs


class TooMuchLoss(ExportError):
    """An int8 file that is too different from its float32 network."""

    def __init__(self, message: str, float_layers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.float_layers = float_layers
        """Layers with which in float32 the file passes; empty if they are not known."""


def verify_int8(
    path: Path, module: nn.Module, verification: Verification, quantization: Quantization
) -> Parity:
    """Compare an int8 file that hwnas has just written with its float32 ``module``.

    Raises `ExportError` if an output is not finite, `TooMuchLoss` if the file exceeds a limit of
    ``quantization``.
    """
    result = compare_int8(path, module, verification)
    check_limits(path, result, quantization)
    return result


def compare_int8(path: Path, module: nn.Module, verification: Verification) -> Parity:
    """Return how a file compares with ``module``, checking only that its outputs are finite."""
    outputs = file_outputs(path, verification.images)
    return int8_parity(path, module, verification, outputs)


def int8_parity(
    path: Path, module: nn.Module, verification: Verification, outputs: Array
) -> Parity:
    """Return how the ``outputs`` of a file compare with those of ``module``."""
    expected = torch_outputs(module, verification.images)
    check_logits(path, outputs, expected)
    if not np.isfinite(outputs).all():
        raise ExportError(f"{path}: gives a value that is not finite")
    result = parity(outputs, expected, verification.labels)
    return msgspec.structs.replace(result, sqnr_db=sqnr_db(outputs, expected))


def check_limits(path: Path, result: Parity, quantization: Quantization) -> None:
    """Raise `TooMuchLoss` if an int8 file exceeds a limit of ``quantization``."""
    problem = exceeded_limit(result, quantization)
    if problem is not None:
        raise TooMuchLoss(f"{path}: {problem}")


def exceeded_limit(result: Parity, quantization: Quantization) -> str | None:
    """Return which limit of ``quantization`` an int8 file exceeds, as a sentence; None if none."""
    assert result.accuracy_torch is not None and result.accuracy_artifact is not None
    if result.accuracy_torch - result.accuracy_artifact > quantization.max_drop:
        return (
            f"the int8 file has accuracy {result.accuracy_artifact:.2%} on "
            f"{result.images} images, float32 {result.accuracy_torch:.2%}; the largest loss "
            f"allowed is {quantization.max_drop:.2%}"
        )
    if (result.label_agreement or 0.0) < quantization.min_label_agreement:
        return (
            f"the int8 file predicts the same class as float32 on only "
            f"{result.label_agreement:.2%} of {result.images} images; the limit is "
            f"{quantization.min_label_agreement:.2%}"
        )
    if result.sqnr_db is not None and result.sqnr_db < quantization.min_sqnr_db:
        return (
            f"the logits of the int8 file differ from float32 by noise of {result.sqnr_db:.1f} dB "
            f"below them; the limit is {quantization.min_sqnr_db:g} dB"
        )
    return None
