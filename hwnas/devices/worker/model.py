"""The interface of an opened model, and the runtime-independent checks of its input."""

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
    """A model file opened by a runtime; takes and returns floats in any precision."""

    version: str
    """Version of the runtime."""
    input_shape: tuple[int, ...]
    """Includes the batch; dynamic axes are 1."""

    def set_input(self, array: Array) -> None:
        """Set the input of all following runs; the array is copied."""
        ...

    def run(self) -> None: ...

    def output(self) -> Array:
        """Return a copy of the first output of the last `run`."""
        ...


@runtime_checkable
class GpuRun(Protocol):
    """A run that is timed by GPU events."""

    def __call__(self) -> None: ...

    def timed_ms(self, calls: int) -> list[float]:
        """Return the time of each call on the GPU."""
        ...


@runtime_checkable
class GpuModel(Protocol):
    """A `Model` on a GPU: its ``run`` is a `GpuRun`, and transfers are timed separately."""

    def check(self) -> None:
        """Raise `BadModel` or RuntimeError if a part of it does not run on the GPU."""
        ...

    def gpu_execution(self) -> dict[str, Any]:
        """Return the fields of `GpuExecution`; measures the transfers now."""
        ...


def only_input(path: str, inputs: Sequence[Any]) -> Any:
    """Return the model's one input. Raises `BadModel` for another number of inputs."""
    if len(inputs) != 1:
        raise BadModel(path, f"expected a model of one input, got {len(inputs)}")
    return inputs[0]


def fixed_shape(shape: Sequence[Any], batch: int = 1) -> tuple[int, ...]:
    """Return a shape with ``batch`` for a dynamic first axis and 1 for other dynamic axes."""
    return tuple(
        (1 if place else batch) if axis is None or isinstance(axis, str) else max(1, int(axis))
        for place, axis in enumerate(shape)
    )


def check_batch(path: str, shape: Sequence[int], batch: int) -> None:
    """Raise `BadModel` for a file with another fixed batch size."""
    if batch != 1 and shape[0] != batch:
        raise BadModel(
            path,
            f"has batch size {shape[0]}, not {batch}; "
            "`hwnas export --format onnx --dynamic-batch` writes files that take any batch size",
        )
