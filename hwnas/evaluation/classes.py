"""Matches the classes of a data set with the outputs of a model file, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError

LISTED = 6
"""Most class names that a message lists."""


def match_classes(
    file: str, labels: Sequence[str], data: str, classes: Sequence[str]
) -> NDArray[np.int64]:
    """Return the output of each of the data set's classes, ``[len(classes)]``.

    The data set may have fewer classes than the file. Raises `UsageError` for a class that the file
    does not have.
    """
    outputs = {name: place for place, name in reversed(list(enumerate(labels)))}
    missing = [name for name in classes if name not in outputs]
    if not missing:
        return np.array([outputs[name] for name in classes], dtype=np.int64)
    known = f"its classes are {_listed(labels)}"
    if len(missing) == len(classes):
        raise UsageError(
            f"{file}: has none of the classes of {data} ({_listed(classes)}); {known}; "
            "--labels FILE renames them"
        )
    near = get_close_matches(missing[0], labels, n=1)
    hint = f", did you mean {near[0]!r}?" if near else ""
    raise UsageError(f"{file}: has no class {missing[0]!r} of {data}{hint}; {known}")


def check_outputs(file: str, outputs: int, data: str, classes: Sequence[str]) -> None:
    """Raise `UsageError` unless a file without names has an output for each class."""
    if outputs != len(classes):
        raise UsageError(
            f"{file}: has {outputs} outputs without names, {data} has {len(classes)} classes; name "
            "the outputs with --labels FILE, one in each line"
        )


def _listed(names: Sequence[str]) -> str:
    more = f", … {len(names) - LISTED} more" * (len(names) > LISTED)
    return ", ".join(names[:LISTED]) + more
