"""Compiles int8 files with some layers in float32, which are named or selected automatically."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from hwnas.export.verification.rounding import TooMuchLoss

T = TypeVar("T")
AUTO = ("auto",)


def with_float_layers(layers: tuple[str, ...], compiled: Callable[[tuple[str, ...]], T]) -> T:
    """Return ``compiled(layers)``; for `AUTO` with those that a first attempt shows to be needed.

    ``compiled`` raises `TooMuchLoss` where the file exceeds its limits.
    """
    if layers != AUTO:
        return compiled(layers)
    try:
        return compiled(())
    except TooMuchLoss as error:
        if not error.float_layers:
            raise
        return compiled(error.float_layers)
