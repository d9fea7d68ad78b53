"""Verification of int8 files of which hwnas has measured ranges; see `rounding` for the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from torch import nn

from hwnas.architecture.artifact import Parity
from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.modules import ForeignModule
from hwnas.export.recipe import Quantization
from hwnas.export.verification.checks import paired
from hwnas.export.verification.decisions import as_decided
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array, is_logits
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.rounding import check_limits, rounded_parity
from hwnas.export.verification.run_model import run_file
from hwnas.export.verification.verify import interface_of, torch_outputs

DECISION_GAP = 0.05
"""Share of the largest value by which the two sides of a decision may differ, and either is right:
that of twelve of 256 levels."""


def verify_int8(
    path: Path,
    module: nn.Module,
    verification: Verification,
    quantization: Quantization,
    interface: Interface | None = None,
) -> Parity:
    """Compare an int8 file that hwnas has just written with its float32 ``module``.

    Raises `ExportError` if an output is not finite, `TooMuchLoss` if the file exceeds a limit of
    ``quantization``.
    """
    result = compare_int8(path, module, verification, interface)
    check_limits(path, result, quantization)
    return result


def compare_int8(
    path: Path, module: nn.Module, verification: Verification, interface: Interface | None = None
) -> Parity:
    """Return the agreement of a file with ``module``; only that its outputs are finite is
    checked."""
    interface = interface or interface_of(module, verification)
    outputs = run_file(path, verification.inputs, interface.input_names)
    return int8_parity(path, module, verification, outputs, interface)


def int8_parity(
    path: Path,
    module: nn.Module,
    verification: Verification,
    outputs: Mapping[str, Array],
    interface: Interface,
) -> Parity:
    """Return the agreement of the ``outputs`` of a file with those of ``module``.

    Outputs of a network that is no classifier are compared with those of ``module`` after the
    decisions of the file, such as which boxes have the best scores, if these are as good.
    """
    expected = _expected(module, interface, verification.inputs)
    if not is_logits(expected):
        outputs = paired(path, outputs, expected)
        inputs = verification.inputs
        expected = as_decided(path, module, interface, inputs, outputs, expected, DECISION_GAP)
    return rounded_parity(path, outputs, expected, verification.labels)


def _expected(module: nn.Module, interface: Interface, inputs: Sequence[Array]) -> dict[str, Array]:
    """Return the outputs of ``module``, ``[N, 1, ...]``; those for images at once, if it can."""
    first = module_outputs(module, interface, [array[:1] for array in inputs])
    images = len(inputs) == 1 and inputs[0].ndim == 4 and inputs[0].dtype.kind == "f"
    if images and len(first) == 1 and not isinstance(module, ForeignModule):
        with suppress(ExportError):
            return {next(iter(first)): torch_outputs(module, inputs[0])[:, None]}
    return module_outputs(module, interface, inputs)
