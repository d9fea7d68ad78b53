"""Runs a model file in its runtime, one input at a time. No torch.

A file that the user names and its runtime refuses is an `InvalidFile`, as for `hwnas benchmark`;
one that is being verified has failed its verification, which is an `ExportError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hwnas.architecture.runtimes import COMPILED
from hwnas.devices.worker.model import BadModel, InputTensor, Model
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.errors import ExportError, InvalidFile
from hwnas.export.recipe import format_of
from hwnas.export.verification.metrics import Array


def file_outputs(path: Path, images: Array, *, threads: int = 1) -> Array:
    """Return the first output of a file for ``images`` ``[N, C, H, W]``; maps are in NCHW."""
    return first_output(run_file(path, [images], threads=threads))


def first_output(outputs: Mapping[str, Array]) -> Array:
    """Return the first of the outputs of `run_file` as ``[N, ...]``."""
    first = next(iter(outputs.values()))
    return first.reshape(-1, *first.shape[2:])


def run_file(
    path: Path, inputs: Sequence[Array], names: Sequence[str] = (), *, threads: int = 1
) -> dict[str, Array]:
    """Return the outputs of a file, by name, for a batch of one at a time: ``[N, 1, ...]``.

    ``inputs`` have N values each. They are in the order of the file's inputs unless that has
    all of their ``names``. Tensors of four axes are in PyTorch's order, whatever the format.
    Raises `ExportError` if the runtime refuses the file.
    """
    if not inputs or not len(inputs[0]):
        raise ValueError("no inputs to run")
    with verifying(), runtime_errors(path):
        model = open_file(path, threads)
        runs = [
            run_model(path, model, [array[place : place + 1] for array in inputs], names)
            for place in range(len(inputs[0]))
        ]
        return {name: np.stack([run[name] for run in runs]) for name in runs[0]}


def outputs_at_once(
    path: Path, inputs: Sequence[Array], names: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the outputs of a file, by name, for all ``inputs`` in one call.

    Raises `ExportError` if the runtime refuses the file.
    """
    with verifying():
        return run_model(path, open_file(path), inputs, names)


def open_file(path: Path, threads: int = 1) -> Model:
    """Open a file in its runtime. Raises `InvalidFile` if the runtime refuses it."""
    with runtime_errors(path):
        return open_model(str(path), COMPILED[format_of(path)].name, threads)


def run_image(path: Path, model: Model, image: Array) -> Array:
    """Return the first output of an opened file for an image ``[C, H, W]``, with its batch."""
    return next(iter(run_model(path, model, [image[None]]).values()))


def run_model(
    path: Path, model: Model, inputs: Sequence[Array], names: Sequence[str] = ()
) -> dict[str, Array]:
    """Return the outputs of an opened file, by name, for ``inputs`` with their batch."""
    with runtime_errors(path):
        stated = [tensor.name for tensor in model.inputs]
        if set(names) == set(stated):
            inputs = [inputs[names.index(name)] for name in stated]
        if len(inputs) != len(stated):
            raise ValueError(
                f"it takes {len(stated)} inputs ({', '.join(stated)}), {len(inputs)} are given"
            )
        pairs = zip(model.inputs, inputs, strict=True)
        model.set_inputs([_stored(path, tensor, array) for tensor, array in pairs])
        model.run()
        return {
            name: COMPILED[format_of(path)].to_nchw(output) if output.ndim == 4 else output
            for name, output in zip(model.output_names, model.outputs(), strict=True)
        }


def _stored(path: Path, tensor: InputTensor, array: Array) -> Array:
    """Return an array in the file's order of axes."""
    runtime = COMPILED[format_of(path)]
    if array.ndim == len(tensor.shape) + 1 and len(array) == 1:  # an input without a batch
        array = array.reshape(array.shape[1:])
    stored = runtime.from_nchw(array) if array.ndim == 4 else array
    for candidate in (stored, array):
        if len(tensor.shape) == candidate.ndim and all(
            isinstance(size, str) or size == given
            for size, given in zip(tensor.shape, candidate.shape, strict=True)
        ):
            return candidate
    what = "input is" if tensor.name == "images" else f"input {tensor.name} is"
    shape = f"({', '.join(map(str, tensor.shape))})"
    raise ValueError(f"its {what} {shape}, the images have shape {stored.shape}")


@contextmanager
def runtime_errors(path: Path) -> Iterator[None]:
    """Raise `InvalidFile` for whatever a runtime raises for a file or its inputs."""
    try:
        yield
    except (BadModel, RuntimeError, ValueError) as error:
        runtime, reason = COMPILED[format_of(path)].name, getattr(error, "why", error)
        raise InvalidFile(str(path), f"{runtime} cannot run it: {reason}") from error


@contextmanager
def verifying() -> Iterator[None]:
    """Raise `ExportError` where the runtime refuses a file: it has failed its verification."""
    try:
        yield
    except InvalidFile as error:
        raise ExportError(str(error)) from error


def runtime_title(path: Path) -> str:
    """Return file and runtime as error messages begin, e.g. ``net.onnx: onnxruntime``."""
    return f"{path}: {COMPILED[format_of(path)].name}"
