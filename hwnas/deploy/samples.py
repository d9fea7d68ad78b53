"""Samples of a bundle: inputs, and the outputs that a device must compute from them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.data.datasets import Dataset
from hwnas.deploy.interface import Array, FileInterface, ImageInput, read_interface
from hwnas.devices.worker.model import InputTensor, noise
from hwnas.errors import ExportError, UsageError
from hwnas.export import samples
from hwnas.export.verification.metrics import accuracy

NAME = "samples.npz"

SAMPLES = 32
"""Most samples in a bundle."""

MAX_BYTES = 32 * 2**20
"""Bytes of all samples: fewer are taken of large inputs and outputs, at least two."""

MAX_RELATIVE_ERROR = {"fp32": 1e-3, "fp16": 1e-3, "int8-weights": 1e-3, "int8": 0.05}
"""Largest difference of outputs between two machines, relative to the largest output. Runtimes
choose other kernels on other processors; a wrong file or input differs by orders of magnitude."""

MAX_OTHER_INTEGERS = {"fp32": 0.01, "fp16": 0.01, "int8-weights": 0.01, "int8": 0.1}
"""Largest share of differing values in an integer output, such as the class of each pixel: rounding
decides between two classes of nearly equal score."""


class SampleInputs(msgspec.Struct, frozen=True):
    """Inputs of a bundle's samples: pixels of images, or values of each input."""

    pixels: Array | None = None
    """uint8 ``[N, C, H, W]``"""
    values: tuple[Array, ...] = ()
    """Of each input ``[N, ...]``, in the file's order of axes and with its batch."""
    labels: Array | None = None
    """``[N]``, the class of each image."""


class Samples(msgspec.Struct, frozen=True):
    """Inputs as the file takes them and its outputs, ``[N, ...]`` each, in order."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    labels: Array | None


class Agreement(msgspec.Struct, frozen=True):
    """Agreement of the outputs on another machine with those in the bundle."""

    samples: int
    max_relative_error: float
    """Of the output that differs most; for an integer output the share of differing values."""
    accuracy: float | None = None
    """None: the samples have no labels."""
    promised_accuracy: float | None = None


def data_samples(data: Dataset) -> SampleInputs:
    """Return the first test images of a data set."""
    return SampleInputs(data.test.images[:SAMPLES], labels=data.test.labels[:SAMPLES])


def image_input(data: Dataset, pixels: bool = False) -> ImageInput:
    """Return the image input of a network trained on ``data``; with ``pixels`` the network itself
    normalises."""
    if pixels:
        return ImageInput(data.input_shape)
    return ImageInput(data.input_shape, data.mean, data.std, 255.0)


def noise_samples(
    inputs: Sequence[InputTensor], shapes: Sequence[tuple[int, ...]], image: ImageInput | None
) -> SampleInputs:
    """Return noise: pixels if the file takes images, else values of each input."""
    if image is not None:
        rng = np.random.default_rng(0)
        count = fitting_count(int(np.prod(image.shape)))
        return SampleInputs(rng.integers(0, 256, (count, *image.shape), np.uint8))
    count = fitting_count(sum(4 * int(np.prod(shape)) for shape in shapes))
    runs = [noise(inputs, shapes, seed) for seed in range(count)]
    return SampleInputs(values=tuple(np.stack(arrays) for arrays in zip(*runs, strict=True)))


def read_values(
    path: Path, inputs: Sequence[InputTensor], shapes: Sequence[tuple[int, ...]]
) -> SampleInputs:
    """Return the samples of an ``.npz`` file, which has an array for each input by its name.

    They are single values in the shape of the input, or ``[N, ...]`` of them. Raises `InvalidFile`.
    """
    names = [tensor.name for tensor in inputs]
    return SampleInputs(values=samples.read_values(path, names, shapes))


def fitting_count(sample_bytes: int) -> int:
    """Return the number of samples of a size that fit into a bundle."""
    return max(2, min(SAMPLES, MAX_BYTES // max(sample_bytes, 1)))


def input_values(samples: SampleInputs, interface: FileInterface) -> tuple[Array, ...]:
    """Return the values of each input, ``[N, ...]``, as the file takes them."""
    if samples.pixels is None:
        return samples.values
    if interface.image is None:
        raise UsageError(f"{interface.model}: takes no images")
    values = interface.image.values(samples.pixels)
    return (RUNTIMES[interface.runtime].from_nchw(values)[:, None],)


def packed(samples: SampleInputs, outputs: Sequence[Array]) -> bytes:
    """Return the content of ``samples.npz``."""
    arrays = {f"output_{place}": array for place, array in enumerate(outputs)}
    arrays |= {f"input_{place}": array for place, array in enumerate(samples.values)}
    if samples.pixels is not None:
        arrays["images"] = samples.pixels
    if samples.labels is not None:
        arrays["labels"] = samples.labels
    content = BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]
    return content.getvalue()


def read_samples(folder: Path) -> Samples:
    """Return the samples of a bundle, with inputs as ``interface.json`` states them."""
    interface = read_interface(folder)
    with np.load(folder / NAME, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    given = SampleInputs(arrays.get("images"), _numbered(arrays, "input"), arrays.get("labels"))
    return Samples(input_values(given, interface), _numbered(arrays, "output"), given.labels)


def _numbered(arrays: dict[str, Array], kind: str) -> tuple[Array, ...]:
    count = sum(name.startswith(f"{kind}_") for name in arrays)
    return tuple(arrays[f"{kind}_{place}"] for place in range(count))


def top1(outputs: Sequence[Array], labels: Array | None) -> float | None:
    """Return the accuracy of the first output, None without labels."""
    return None if labels is None else accuracy(outputs[0].reshape(len(labels), -1), labels)


def compare_outputs(
    outputs: Sequence[Array], samples: Samples, interface: FileInterface, precision: str
) -> Agreement:
    """Compare outputs with the bundle's. Raises `ExportError` where they differ too much."""
    if len(outputs) != len(samples.outputs):
        raise ExportError(f"{len(outputs)} outputs, expected {len(samples.outputs)}")
    kind = precision if precision in MAX_RELATIVE_ERROR else "int8"
    errors: list[float] = []
    promised, reached = (top1(each, samples.labels) for each in (samples.outputs, outputs))
    for given, expected, tensor in zip(outputs, samples.outputs, interface.outputs, strict=True):
        place = f"the output {tensor.name} has" if len(outputs) > 1 else "outputs have"
        if given.shape != expected.shape:
            raise ExportError(
                f"{place} the shape {given.shape}, expected {expected.shape} as in the bundle"
            )
        floats = expected.dtype.kind == "f"
        error = _difference(given, expected) if floats else float((given != expected).mean())
        limit = (MAX_RELATIVE_ERROR if floats else MAX_OTHER_INTEGERS)[kind]
        if not error <= limit:
            what = "of the largest output" if floats else "of its values"
            rates = "" if promised is None else f"; accuracy {reached:.1%}, promised {promised:.1%}"
            raise ExportError(
                f"outputs differ from the bundle's by {error:.2g} {what}"
                f"{f' in {tensor.name}' if len(outputs) > 1 else ''}, more than {limit:g}{rates}"
            )
        errors.append(error)
    return Agreement(len(outputs[0]), max(errors), reached, promised)


def _difference(outputs: Array, expected: Array) -> float:
    largest = float(np.abs(expected).max(initial=0.0)) or 1.0
    return float(np.abs(outputs - expected).max(initial=0.0)) / largest
