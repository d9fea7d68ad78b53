"""The interface of an opened model, and the runtime-independent checks of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

Array = np.ndarray[Any, Any]


class BadModel(ValueError):
    """A model file that the runtime cannot open or run."""

    def __init__(self, path: str, why: object) -> None:
        lines = str(why).strip().splitlines() or [type(why).__name__]
        super().__init__(f"{path}: {lines[0]}")
        self.path = path
        self.why = lines[0]


class InputTensor(NamedTuple):
    """An input of a model file, as the file states it."""

    name: str
    shape: tuple[int | str, ...]
    """With the batch; a text is the name of a free axis, ``?`` if it has none."""
    dtype: str
    """numpy's name of the type; ``float32`` for 8-bit types with a scale."""


class Model(Protocol):
    """A model file opened by a runtime; takes and returns floats in any precision."""

    version: str
    """Version of the runtime."""
    inputs: tuple[InputTensor, ...]
    output_names: tuple[str, ...]

    def set_inputs(self, arrays: Sequence[Array]) -> None:
        """Set the inputs, in order, of all following runs; the arrays are copied."""
        ...

    def run(self) -> None: ...

    def outputs(self) -> list[Array]:
        """Return copies of the outputs of the last `run`, in order."""
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
        """Raise `BadModel` or RuntimeError if a part of the model does not run on the GPU."""
        ...

    def gpu_execution(self) -> dict[str, Any]:
        """Return the fields of `GpuExecution`; measures the transfers now."""
        ...


def input_shapes(
    path: str,
    inputs: Sequence[InputTensor],
    batch: int | None = None,
    stated: Sequence[Mapping[str, Any]] = (),
) -> list[tuple[int, ...]]:
    """Return the shape of each input for a batch; None: the file's own, or 1 if it takes any.

    ``stated`` has a ``shape`` without the batch and a ``name``, or None for the next input in
    order. Raises `BadModel` for another batch or shape, and for free axes that are not stated.
    """
    given = _stated_shapes(path, inputs, stated)
    shapes: list[tuple[int, ...]] = []
    for place, tensor in enumerate(inputs):
        sizes: list[int | str] = list(tensor.shape)
        if sizes and isinstance(sizes[0], str):
            sizes[0] = batch or 1
        elif sizes and place == 0 and batch not in (None, sizes[0]):
            raise BadModel(
                path,
                f"has batch size {sizes[0]}, not {batch}; "
                "`hwnas export --format onnx --dynamic-batch` writes files that take any batch "
                "size",
            )
        wanted = given.get(tensor.name)
        if wanted is not None:
            fits = len(wanted) == len(sizes) - 1 and all(
                isinstance(size, str) or size == other
                for size, other in zip(sizes[1:], wanted, strict=True)
            )
            if not fits:
                raise BadModel(
                    path, f"the input {tensor.name} is {_text(tensor.shape)}, not {_text(wanted)}"
                )
            sizes[1:] = wanted
        if any(isinstance(size, str) for size in sizes):
            example = "x".join(str(size) if isinstance(size, int) else "224" for size in sizes[1:])
            if example == "224x224x224":
                example = "3x224x224"
            name = "" if len(inputs) == 1 else f"{tensor.name}="
            raise BadModel(
                path,
                f"the input {tensor.name} is {_text(tensor.shape)}, of any size; state the size "
                f"without the batch, e.g. --input-shape {name}{example}",
            )
        shapes.append(tuple(map(int, sizes)))
    return shapes


def noise(inputs: Sequence[InputTensor], shapes: Sequence[Sequence[int]], seed: int) -> list[Array]:
    """Return random inputs: normal floats, pixels for uint8, and 0 or 1 for other integers."""
    rng = np.random.default_rng(seed)
    arrays: list[Array] = []
    for tensor, shape in zip(inputs, shapes, strict=True):
        if tensor.dtype.startswith(("float", "double")):
            arrays.append(rng.standard_normal(tuple(shape), np.float32))
        else:
            arrays.append(rng.integers(0, 256 if tensor.dtype == "uint8" else 2, tuple(shape)))
    return arrays


def fit(path: str, inputs: Sequence[InputTensor], arrays: Sequence[Array]) -> None:
    """Raise `BadModel` unless there is an array that fits each input."""
    if len(arrays) != len(inputs):
        names = ", ".join(tensor.name for tensor in inputs)
        raise BadModel(path, f"takes {len(inputs)} inputs ({names}), {len(arrays)} are given")
    for tensor, array in zip(inputs, arrays, strict=True):
        fits = len(tensor.shape) == array.ndim and all(
            isinstance(size, str) or size == given
            for size, given in zip(tensor.shape, array.shape, strict=True)
        )
        if not fits:
            raise BadModel(
                path, f"its input {tensor.name} is {_text(tensor.shape)}, not {_text(array.shape)}"
            )


def _stated_shapes(
    path: str, inputs: Sequence[InputTensor], stated: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[int, ...]]:
    given = {each["name"]: tuple(each["shape"]) for each in stated if each["name"] is not None}
    names = [tensor.name for tensor in inputs]
    free = [name for name in names if name not in given]
    in_order = [tuple(each["shape"]) for each in stated if each["name"] is None]
    unknown = [name for name in given if name not in names]
    if unknown or len(in_order) > len(free):
        what = f"no input {unknown[0]!r}" if unknown else f"{len(names)} inputs"
        raise BadModel(path, f"has {what}; its inputs: {', '.join(names)}")
    return {**given, **dict(zip(free, in_order, strict=False))}


def _text(shape: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"
