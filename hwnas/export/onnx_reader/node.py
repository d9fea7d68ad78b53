"""A node of an ONNX file: its attributes, and the values that a reader needs as numbers."""

from __future__ import annotations

from typing import Any, NoReturn

from torch import Tensor

from hwnas.errors import ExportError
from hwnas.export.graph.tensor import TracedTensor


class OnnxNode:
    """An operator at one place of a file."""

    def __init__(
        self,
        name: str,
        op: str,
        version: int,
        attributes: dict[str, Any],
        outputs: int = 1,
        declared: int = 1,
    ) -> None:
        self.name, self.op, self.attributes = name, op, attributes
        self.outputs = outputs
        """Number of outputs up to the last that is used."""
        self.declared = declared
        """Number of outputs that the file states."""
        self.version = version
        """Opset version of the operator's domain."""

    def integer(self, attribute: str, default: int | None = None) -> int:
        return self._attribute(attribute, default)

    def number(self, attribute: str, default: float | None = None) -> float:
        return float(self._attribute(attribute, default))

    def text(self, attribute: str, default: str) -> str:
        value = self.attributes.get(attribute, default)
        return value.decode() if isinstance(value, bytes) else value

    def integers(self, attribute: str, default: list[int] | None = None) -> list[int]:
        return list(self._attribute(attribute, default))

    def refuse(self, why: str) -> NoReturn:
        """Raise the error that names the node and its operator; ``why`` completes a sentence."""
        raise ExportError(f"node {self.name!r} ({self.op}) {why}")

    def constant(self, value: Tensor, what: str) -> Tensor:
        """Return an input that may not depend on the model's input."""
        if not isinstance(value, TracedTensor):
            return value
        if value.value is not None:
            self.refuse(f"takes {what} that depends on the input of the network")
        return value.data_

    def numbers(self, value: Tensor, what: str) -> list[int]:
        """Return a constant input as a list of integers."""
        return [int(number) for number in self.constant(value, what).reshape(-1).tolist()]

    def axes(self, given: Tensor | None, rank: int, default: list[int]) -> list[int]:
        """Return the axes that an input or, in older versions, an attribute states, from 0 on."""
        stated = self.attributes.get("axes") if given is None else self.numbers(given, "axes")
        return [axis % rank for axis in (default if stated is None else stated)] if rank else []

    def _attribute(self, name: str, default: Any) -> Any:
        if name in self.attributes:
            return self.attributes[name]
        if default is None:
            self.refuse(f"has no attribute {name}, which its operator needs")
        return default


def is_traced(value: Any) -> bool:
    """Return whether a value depends on the input of the network."""
    return isinstance(value, TracedTensor) and value.value is not None


def scalar(value: Tensor | None, rank: int) -> float | int | bool | None:
    """Return a constant of one element and no more axes than ``rank`` as a number, else None."""
    if value is None or isinstance(value, TracedTensor):
        return None
    return value.item() if value.numel() == 1 and value.dim() <= rank else None


def to_dtype_of(value: Tensor, like: Tensor) -> Tensor:
    """Return a constant float in the width of another one."""
    return (
        value.to(like.dtype) if value.is_floating_point() and value.dtype != like.dtype else value
    )
