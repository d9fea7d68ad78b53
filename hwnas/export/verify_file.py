"""Verifies a model file of unknown origin and any precision against its network."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from torch import nn

from hwnas.architecture.artifact import Parity
from hwnas.devices.external_data import check_present
from hwnas.errors import ExportError
from hwnas.export.graph.interface import Interface
from hwnas.export.graph.modules import explains
from hwnas.export.graph.trace import trace
from hwnas.export.metadata.precision import precision_of
from hwnas.export.quantization.int8_agreement import int8_parity
from hwnas.export.quantization.ptq import int8_quantization
from hwnas.export.quantization.sensitivity import value_noise_db
from hwnas.export.recipe import find_recipe, format_of
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array
from hwnas.export.verification.rounding import TooMuchLoss, check_limits
from hwnas.export.verification.sandbox import sandboxed_outputs
from hwnas.export.verification.verify import interface_of, verify_outputs
from hwnas.export.write import write_graph

LOCATING_IMAGES = 4
"""Number of images on which the first layer that differs is searched for."""

DIFFERENT_DB = 10.0
"""Signal-to-noise ratio below which a value of an int8 file counts as different."""


def verify_file(
    path: Path, module: nn.Module, verification: Verification, interface: Interface | None = None
) -> Parity:
    """Compare a file that may be damaged with ``module``; an int8 file by the limits of int8.

    It runs in a child process, because a damaged file may crash its runtime. An `ExportError` for
    a difference names the first layer that differs.
    """
    check_present(path)
    interface = interface or interface_of(module, verification)
    outputs = sandboxed_outputs(path, verification.inputs, interface.input_names)
    return _compared(path, module, verification, interface, outputs)


@explains
def _compared(
    path: Path,
    module: nn.Module,
    verification: Verification,
    interface: Interface,
    outputs: dict[str, Array],
) -> Parity:
    precision = precision_of(path)
    if precision != "int8":
        return verify_outputs(path, module, verification, interface, outputs, precision)
    result = int8_parity(path, module, verification, outputs, interface)
    try:
        check_limits(path, result, int8_quantization(format_of(path)))
    except TooMuchLoss as error:
        few = [array[:LOCATING_IMAGES] for array in verification.inputs]
        layer = _first_different(path, module, interface, few)
        if layer is None:
            raise
        raise TooMuchLoss(f"{error}; the first layer that differs is {layer}") from error
    return result


def _first_different(
    path: Path, module: nn.Module, interface: Interface, inputs: Sequence[Array]
) -> str | None:
    """Return the first value of an int8 file with more noise than `DIFFERENT_DB`, if there is one.

    It is compared with the float32 file that the compiler makes of ``module``.
    """
    # the inputs of a file of another program may be others
    with suppress(ExportError, RuntimeError, ValueError), tempfile.TemporaryDirectory() as folder:
        graph = trace(module, interface)
        source = Path(folder) / f"float{path.suffix}"
        write_graph(graph, find_recipe(format_of(path)), source, {})
        noise_db = value_noise_db(source, path, inputs)
        for node in graph.nodes:
            if (ratio_db := noise_db.get(node.name)) is not None and ratio_db < DIFFERENT_DB:
                return f"{node.name}, with a signal-to-noise ratio of {ratio_db:.1f} dB"
    return None
