"""Limits of files of 8 bits: the classes that they predict, and the noise in their outputs.

Rounding to 8 bits changes every value, so the error limit of float files does not apply. A
classifier is judged by the share of inputs for which file and float32 network predict the same
class, and by the loss of accuracy. Networks that always predict a single class, such as untrained
ones, and networks other than classifiers are judged by the noise in the outputs.

Without labels, right and wrong classes count the same, and those of an untrained network may be
closer to each other than rounding. Then the share is taken over the inputs whose class the noise
leaves decided; where these are less than half of all, the noise is also compared with what differs
between the inputs, which a file that does not depend on its input lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.artifact import DecidedClasses, OutputParity, Parity, Precision
from hwnas.errors import ExportError
from hwnas.export.recipe import Quantization
from hwnas.export.verification.checks import check_finite, paired
from hwnas.export.verification.metrics import (
    Array,
    decided_classes,
    is_logits,
    parity,
    relative_error,
    sqnr_db,
)

MIN_DECIDED = 0.5
"""Share of inputs with a decided class from which their classes suffice to judge a file."""


class TooMuchLoss(ExportError):
    """A file of 8 bits that is too different from its float32 network."""

    def __init__(self, message: str, float_layers: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.float_layers = float_layers
        """Layers with which in float32 the file passes; empty if they are not known."""


def rounded_parity(
    path: Path, outputs: Mapping[str, Array], expected: Mapping[str, Array], labels: Array | None
) -> Parity:
    """Return the agreement of the outputs of a file with PyTorch's, ``[N, 1, ...]`` each.

    Raises `ExportError` for a value that is not finite.
    """
    outputs = paired(path, outputs, expected)
    for name, values in expected.items():
        place = f" in the output {name}" if len(expected) > 1 else ""
        check_finite(values, "PyTorch", place)
        check_finite(outputs[name], str(path), place)
    results = tuple(_output(name, outputs[name], values) for name, values in expected.items())
    noise_db = min((each.sqnr_db for each in results if each.sqnr_db is not None), default=None)
    if is_logits(expected):
        logits, expected_logits = (next(iter(each.values()))[:, 0] for each in (outputs, expected))
        result = parity(logits, expected_logits, labels)
        decided = decided_classes(logits, expected_logits)
        return msgspec.structs.replace(result, sqnr_db=noise_db, outputs=results, decided=decided)
    return Parity(
        images=len(next(iter(expected.values()))),
        max_relative_error=max(
            (each.max_relative_error for each in results if each.agreement is None), default=0.0
        ),
        sqnr_db=noise_db,
        outputs=results,
    )


def _output(name: str, outputs: Array, expected: Array) -> OutputParity:
    shape = expected.shape[1:]
    if expected.dtype.kind == "f":
        error, noise_db = relative_error(outputs, expected), sqnr_db(outputs, expected)
        return OutputParity(name, shape, error, sqnr_db=noise_db)
    error = relative_error(outputs.astype(np.float64), expected.astype(np.float64))
    return OutputParity(name, shape, error, agreement=float((outputs == expected).mean()))


def check_limits(
    path: Path, result: Parity, quantization: Quantization, precision: Precision = "int8"
) -> None:
    """Raise `TooMuchLoss` if a file exceeds a limit of ``quantization``."""
    problem = exceeded_limit(result, quantization, precision)
    if problem is not None:
        raise TooMuchLoss(f"{path}: {problem}")


def exceeded_limit(
    result: Parity, quantization: Quantization, precision: Precision = "int8"
) -> str | None:
    """Return a sentence on the limit of ``quantization`` that a file exceeds; None if it exceeds
    none.

    Without labels, classes count for ``int8`` only: the other precisions are verified on noise.
    """
    if result.accuracy_torch is None or result.accuracy_artifact is None:
        return _noisy_output(result, quantization, precision)
    problem = None
    if result.hits:
        problem = _lost_classes(result, result.accuracy_artifact, quantization, precision)
    elif result.decided is not None and precision == "int8":
        problem = _decided_classes(result, result.decided, quantization)
    if problem is not None:
        return problem
    if result.sqnr_db is not None and result.sqnr_db < quantization.min_sqnr_db:
        return (
            f"the logits of the {precision} file differ from float32 by noise of "
            f"{result.sqnr_db:.1f} dB below them; the limit is {quantization.min_sqnr_db:g} dB"
        )
    return None


def _lost_classes(
    result: Parity, accuracy: float, quantization: Quantization, precision: Precision
) -> str | None:
    assert result.accuracy_torch is not None
    if result.accuracy_torch - accuracy > quantization.max_drop:
        return (
            f"the {precision} file has accuracy {accuracy:.2%} on {result.images} images, float32 "
            f"{result.accuracy_torch:.2%}; the largest loss allowed is {quantization.max_drop:.2%}"
        )
    if (result.label_agreement or 0.0) < quantization.min_label_agreement:
        return (
            f"the {precision} file predicts the same class as float32 on only "
            f"{result.label_agreement:.2%} of {result.images} images; the limit is "
            f"{quantization.min_label_agreement:.2%}"
        )
    return None


def _decided_classes(
    result: Parity, decided: DecidedClasses, quantization: Quantization
) -> str | None:
    few, noise_db = decided.images < MIN_DECIDED * result.images, decided.difference_sqnr_db
    others = round((1 - decided.agreement) * decided.images)
    allowed = 1 if few else 0  # one of few is 1 of 40 cases, or of 4
    if others > allowed and decided.agreement < quantization.min_label_agreement:
        return (
            f"the int8 file predicts the same class as float32 on only {decided.agreement:.2%} of "
            f"the {decided.images} of {result.images} images whose class its noise leaves decided; "
            f"the limit is {quantization.min_label_agreement:.2%}"
        )
    if few and noise_db is not None and noise_db < quantization.min_sqnr_db:
        return (
            f"the noise of the int8 file leaves the class of {decided.images} of {result.images} "
            f"images decided, and is {noise_db:.1f} dB below what differs between the images; the "
            f"limit is {quantization.min_sqnr_db:g} dB"
        )
    return None


def _noisy_output(result: Parity, quantization: Quantization, precision: Precision) -> str | None:
    for output in result.outputs:
        place = f"the output {output.name} of the {precision} file"
        if output.sqnr_db is not None and output.sqnr_db < quantization.min_output_sqnr_db:
            return (
                f"{place} differs from float32 by noise of {output.sqnr_db:.1f} dB below it; the "
                f"limit is {quantization.min_output_sqnr_db:g} dB"
            )
        if output.agreement is not None and output.agreement < quantization.min_label_agreement:
            return (
                f"{place} is the same as that of float32 in only {output.agreement:.2%} of its "
                f"elements; the limit is {quantization.min_label_agreement:.2%}"
            )
    return None
