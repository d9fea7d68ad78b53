"""A table of the functions that write each kind of graph node; every file format has its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from hwnas.export.graph.nodes import Node

Builder = TypeVar("Builder")
N = TypeVar("N", bound=Node)


class Emitters(Generic[Builder]):
    """The emitters of one file format, by the type of node that they write."""

    def __init__(self, format: str) -> None:
        self.format = format
        self.functions: dict[type[Node], Callable[[Builder, Any], None]] = {}

    def emits(
        self, kind: type[N]
    ) -> Callable[[Callable[[Builder, N], None]], Callable[[Builder, N], None]]:
        """Register the decorated function as the emitter of ``kind``."""

        def register(function: Callable[[Builder, N], None]) -> Callable[[Builder, N], None]:
            self.functions[kind] = function
            return function

        return register

    def emit(self, builder: Builder, node: Node) -> None:
        """Add the operators of ``node`` to the file that ``builder`` holds."""
        self.functions[type(node)](builder, node)
