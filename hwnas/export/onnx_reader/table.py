"""All operators that can be read: the readers register themselves where they are defined."""

from __future__ import annotations

from hwnas.export.onnx_reader.ops import (
    activation,
    arithmetic,
    axes,
    constants,
    conv,
    linear,
    norm,
    pieces,
    pool,
    recurrent,
    reduce,
    resize,
)
from hwnas.export.onnx_reader.registry import READS

SUBJECTS = {
    "convolutions": conv,
    "linear layers, products": linear,
    "recurrent layers": recurrent,
    "norms": norm,
    "functions of each element": activation,
    "arithmetic, comparisons": arithmetic,
    "reductions": reduce,
    "pools": pool,
    "resizing": resize,
    "axes, casts": axes,
    "pieces": pieces,
    "constants, shapes": constants,
}
"""The module that reads the operators of each subject, for the documentation."""


def operators(subject: str) -> list[str]:
    """Return the names of the operators of a subject."""
    module = SUBJECTS[subject].__name__
    return sorted(op for op, function in READS.items() if function.__module__ == module)
