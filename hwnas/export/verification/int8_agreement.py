"""Whether an int8 file is worth keeping: does it see what PyTorch's float32 network sees?

Rounding to 8 bits moves every logit, so the limit of float files says nothing here. What counts
are the classes: how often both see the same, and what the file loses in accuracy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from hwnas.architecture.artifact import Format, Parity
from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.metrics import check_logits, relative_error
from hwnas.export.verification.verify import file_outputs, torch_outputs

Array = np.ndarray[Any, Any]


def agreement(
    path: Path, format: Format, module: nn.Module, images: Array, labels: Array, how: Quantization
) -> Parity:
    """Run an int8 file and the module on normalised ``images`` ``[N, C, H, W]``.

    Raises `ExportError` if an output is not finite, they agree on too few classes, or the file
    loses more accuracy than ``how`` allows.
    """
    parity = compared(path, format, module, images, labels)
    drop = parity.accuracy_torch - parity.accuracy_artifact
    if drop > how.max_drop:
        raise ExportError(
            f"{path}: in int8 {parity.accuracy_artifact:.2%} of {len(images)} images are right, in "
            f"float32 {parity.accuracy_torch:.2%}; allowed is a loss of {how.max_drop:.2%}"
        )
    if (parity.label_agreement or 0.0) < how.min_label_agreement:
        raise ExportError(
            f"{path}: in int8 the same class as in float32 is seen in {parity.label_agreement:.2%} "
            f"of {len(images)} images only; the limit is {how.min_label_agreement:.2%}"
        )
    return parity


def compared(path: Path, format: Format, module: nn.Module, images: Array, labels: Array) -> Parity:
    """Return how the file compares with the module; judges nothing but that it is finite."""
    expected, got = torch_outputs(module, images), file_outputs(path, format, images)
    check_logits(path, got, expected)
    if not np.isfinite(got).all():
        raise ExportError(f"{path}: gives a value that is not finite")
    seen, wanted = got.argmax(axis=1), expected.argmax(axis=1)
    return Parity(
        images=len(images),
        max_relative_error=relative_error(got, expected),
        accuracy_torch=float((wanted == labels).mean()),
        accuracy_artifact=float((seen == labels).mean()),
        label_agreement=float((seen == wanted).mean()),
    )
