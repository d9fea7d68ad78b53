"""The interface of an opened model file, and checks of its input that every runtime needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

Array = np.ndarray[Any, Any]


class BadModel(ValueError):
    """A model file that the runtime cannot open or run."""

    def __init__(self, path: str, why: object) -> None:
        lines = str(why).strip().splitlines() or [type(why).__name__]
        super().__init__(f"{path}: {lines[0]}")
        self.path = path
        self.why = lines[0]


class Model(Protocol):
    """A model file opened by a runtime. Floats in, floats out, whatever it computes with."""

    version: str
    """Of the runtime."""
    input_shape: tuple[int, ...]
    """With the batch; axes of free length are 1."""

    def set_input(self, array: Array) -> None:
        """Give the input that every following `run` sees; it may be changed afterwards."""
        ...

    def run(self) -> None: ...

    def output(self) -> Array:
        """Return a copy of the first output of the last `run`."""
        ...


@runtime_checkable
class GpuRun(Protocol):
    """A run that is timed by events on the GPU."""

    def __call__(self) -> None: ...

    def timed_ms(self, calls: int) -> list[float]: ...


@runtime_checkable
class GpuModel(Protocol):
    """A `Model` on a GPU: ``run`` is a `GpuRun`, and transfers are told apart."""

    def check(self) -> None:
        """Raise `BadModel` or RuntimeError where not all of it runs on the GPU."""
        ...

    def said(self) -> dict[str, Any]:
        """Return the fields of `GpuExecution`; measures the transfers now."""
        ...


def only_input(path: str, inputs: Sequence[Any]) -> Any:
    if len(inputs) != 1:
        raise BadModel(path, f"expected a model of one input, got {len(inputs)}")
    return inputs[0]


def fixed_shape(shape: Sequence[Any], batch: int = 1) -> tuple[int, ...]:
    """Return a shape with ``batch`` for a free first axis and 1 for other free ones."""
    return tuple(
        (1 if place else batch) if axis is None or isinstance(axis, str) else max(1, int(axis))
        for place, axis in enumerate(shape)
    )


def check_batch(path: str, shape: Sequence[int], batch: int) -> None:
    """Raise `BadModel` for a file that takes another batch than is asked for."""
    if batch != 1 and shape[0] != batch:
        raise BadModel(
            path,
            f"takes {shape[0]} input{'s' if shape[0] > 1 else ''} at once, not {batch}; "
            "`hwnas export --format onnx --dynamic-batch` writes files that take any number",
        )
