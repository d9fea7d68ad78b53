"""The table of ONNX operators that can be read: a function of PyTorch calls for each.

A function takes the node and its inputs: a tensor each, or None for one that is left out. It calls
PyTorch, whose operations the compiler lowers; what does not depend on the model's input is computed
by PyTorch at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

READS: dict[str, Callable[..., Any]] = {}
"""By the operator's name; those of another domain than ONNX's begin with it and a dot."""


def reads(*ops: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function for ``ops``."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        READS.update(dict.fromkeys(ops, function))
        return function

    return register
