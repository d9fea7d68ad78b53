"""Why a runtime refuses a model file, in one line: versions, operators, damage.

Messages of runtimes are long and name positions in their own source. A message that is not in the
table is shown without these positions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hwnas.devices.worker.model import BadModel

FIRST_BYTES = 64


class Refusal(NamedTuple):
    """A message of a runtime."""

    pattern: str
    reason: str
    """With the groups of the pattern, the file's kind and the runtime."""


REFUSALS = (
    # ONNX Runtime
    Refusal(
        r"Unsupported model IR version: (\d+), max supported IR version: (\d+)",
        "IR version {0}, but {runtime} reads up to {1}; update onnxruntime, or save the file with "
        "a lower ir_version",
    ),
    Refusal(
        r"Opset (\d+) is under development.*for domain (\S+) is till opset (\d+)",
        "opset {0} of {1}, but {runtime} knows up to {2}; update onnxruntime, or export the "
        "network with a lower opset",
    ),
    Refusal(r"Opset (\d+) is under development", "opset {0}, which {runtime} does not know yet"),
    Refusal(r"Missing opset in the model", "no opset is stated in the file"),
    Refusal(r"Missing model IR version", "no IR version is stated in the file"),
    Refusal(
        r"Fatal error: ([\w.]+):(\w+)\(-?\d+\) is not a registered function/op",
        "the operator {1} of the domain {0} is not one of {runtime}; custom operators need their "
        "library, which hwnas does not load",
    ),
    Refusal(
        r'In Node, \("([^"]*)", (\w+), .*No Op registered for \w+ with domain_version of (\d+)',
        "the operator {1} (node {0!r}) does not exist in opset {2}",
    ),
    Refusal(
        r"Could not find an implementation for (\w+)\(\d+\) node with name '([^']*)'",
        "{runtime} has no {0} for the types of the node {1!r}",
    ),
    Refusal(r"Protobuf parsing failed|No graph was found in the protobuf", "{damage}"),
    # LiteRT
    Refusal(
        r"unresolved custom op: (\w+)",
        "the custom operator {0} is not one of {runtime}; custom operators need their library, "
        "which hwnas does not load",
    ),
    Refusal(
        r"Select TensorFlow op.*\((Flex\w+)\)",
        "the operator {0} is TensorFlow's own and not one of {runtime}; convert the network "
        "without SELECT_TF_OPS",
    ),
    Refusal(
        r"Didn't find op for builtin opcode '(\w+)' version '(\d+)'",
        "{0} in version {1} is newer than {runtime}; update ai-edge-litert",
    ),
    Refusal(
        r"builtin_code out of range: (\d+)",
        "the operator of number {0} is newer than {runtime}; update ai-edge-litert",
    ),
    Refusal(
        r"schema version (\d+) not equal to supported version (\d+)",
        "schema version {0}, but {runtime} reads version {1}",
    ),
    Refusal(r"not a valid Flatbuffer buffer|model allocation is null/empty", "{damage}"),
)

NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed: ?"
    r"|/onnxruntime_src/\S+:\d+ .*?\) |\S+\.cc:\d+ "
)
"""Parts of messages that are removed: a status, the file, positions in the runtime's source."""


def refused(path: str, error: Exception, runtime: str) -> BadModel:
    """Return the error for a file that a runtime, such as ``ONNX Runtime 1.20``, refuses."""
    message = str(error)
    for pattern, reason in REFUSALS:
        match = re.search(pattern, message, re.DOTALL)
        if match is not None:
            return BadModel(
                path, reason.format(*match.groups(), runtime=runtime, damage=damage(path))
            )
    return BadModel(path, NOISE.sub("", message).strip() or error)


def damage(path: str) -> str:
    """Return what is wrong with a file that is no complete model of the format of its suffix."""
    try:
        with open(path, "rb") as file:
            head = file.read(FIRST_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    expected = "TFLite" if path.endswith(".tflite") else "ONNX"
    if not head:
        return "an empty file"
    kind = _kind(head)
    if kind is not None and kind != expected:
        return f"{kind}, not {expected}"
    return f"not a whole {expected} file; was it copied completely?"


def _kind(head: bytes) -> str | None:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html")):
        return "a web page"
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive, as PyTorch and Keras write"
    if head.startswith(b"\x89HDF"):
        return "an HDF5 file, as Keras writes"
    if head[4:8] == b"ORTM":
        return "ONNX Runtime's own format"
    if head[4:8] == b"TFL3":
        return "TFLite"
    if head[:1] == b"\x08" and len(head) > 2 and head[2:3] in (b"\x12", b"\x3a"):
        return "ONNX"
    return None
