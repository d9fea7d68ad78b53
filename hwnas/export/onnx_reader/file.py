"""Reads an ONNX file that may come from anywhere: protobuf, versions, functions.

Nothing in a file is executed. Weights in files beside it are read from its own folder only.
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from hwnas.devices.external_data import check_present
from hwnas.devices.worker.runtimes.refusals import damage
from hwnas.errors import InvalidFile, first_line

OLDEST_OPSET = 7
"""Since then operands broadcast as in NumPy; files before are from 2017."""
DOMAINS = ("", "ai.onnx")
"""Names of the standard domain."""


def read_model(path: Path) -> ModelProto:
    """Return the model of a file, with its local functions inlined and external data left out.

    Raises `InvalidFile` for a file that is missing, damaged, a pointer of Git LFS, or too old.
    """
    check_present(path)
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception:  # whatever reading a damaged file raises
        raise InvalidFile(str(path), f"no readable ONNX file ({damage(str(path))})") from None
    if not model.graph.node:
        why = "its graph has no nodes" if model.ir_version else damage(str(path))
        raise InvalidFile(str(path), f"no readable ONNX file ({why})")
    opset = opset_versions(model).get("", 0)
    if opset < OLDEST_OPSET:
        raise InvalidFile(
            str(path),
            f"is of opset {opset}; expected {OLDEST_OPSET} or later: convert it with "
            "onnx.version_converter.convert_version",
        )
    return _inlined(path, model) if model.functions else model


def opset_versions(model: ModelProto) -> dict[str, int]:
    """Return the opset version of each domain, of which that of ONNX is ``""``."""
    return {
        "" if entry.domain in DOMAINS else entry.domain: entry.version
        for entry in model.opset_import
    }


def _inlined(path: Path, model: ModelProto) -> ModelProto:
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except Exception as error:  # a function that calls itself, or that is not there
        raise InvalidFile(
            str(path), f"its functions cannot be inlined ({first_line(error)})"
        ) from None
