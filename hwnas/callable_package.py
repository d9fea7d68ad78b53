"""Packages that are also functions: ``hwnas.export(...)`` beside ``hwnas.export.compile``.

The package folders ``export``, ``devices`` and ``specialize`` are named after what they do, and so
are the public functions. Each of the three packages is therefore callable, and a call runs the
function of that name in `hwnas.api`, which is imported when it is needed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package that runs the function of its name in `hwnas.api` when it is called."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        function = self.__name__.rpartition(".")[2]
        return getattr(import_module("hwnas.api"), function)(*arguments, **options)


def make_callable(package: str) -> None:
    """Make an imported package callable; ``package`` is its ``__name__``."""
    sys.modules[package].__class__ = CallablePackage
