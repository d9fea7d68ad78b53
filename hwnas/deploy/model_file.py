"""Bundles of single model files, which hwnas or another program compiled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import COMPILED
from hwnas.deploy.bundle import Manifest, write_bundle
from hwnas.deploy.interface import ImageInput, image_shape
from hwnas.deploy.samples import noise_samples, read_values
from hwnas.deploy.stated import InputValues, Normalisation, stated_in
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import InputShape, Subject, check_file
from hwnas.devices.worker.model import BadModel, Model, input_shapes
from hwnas.errors import UsageError
from hwnas.export.metadata.precision import precision_of
from hwnas.export.recipe import format_of
from hwnas.export.verification.run_model import open_file

TARGETS = {"onnxruntime": "host-cpu", "litert": "host-cpu-litert"}
"""This machine, by the runtime of a file."""


def bundle_file(
    path: Path,
    folder: Path,
    target: str | None = None,
    *,
    input_values: InputValues | None = None,
    labels: Path | None = None,
    shapes: Sequence[InputShape] = (),
    samples: Path | None = None,
) -> Manifest:
    """Write the bundle of a model file for ``target``, by default this machine.

    ``input_values`` and ``labels`` replace what the file states; ``shapes`` are those of inputs of
    any size. The samples are noise, or the arrays of an ``.npz`` file. Raises `UsageError` for a
    file that the target does not run, or if ``input_values`` are given for an input that is no
    image.
    """
    profile = find_profile(target or TARGETS[COMPILED[format_of(path)].name])
    check_file(Subject(str(path), path), profile)
    stated, model = stated_in(path).given(input_values, labels), open_file(path)
    image = _image(path, model, stated.normalisation, shapes)
    if image is None and input_values is not None:
        listed = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in model.inputs)
        raise UsageError(f"--input {input_values}: {path} takes {listed}, no image")
    with _usage_errors():
        sizes = input_shapes(str(path), model.inputs, stated=_plain(shapes))
    given = noise_samples(model.inputs, sizes, image)
    if samples is not None:
        given = read_values(samples, model.inputs, sizes)
    return write_bundle(
        folder,
        path,
        given,
        profile.name if target is None else target,
        image=image,
        labels=stated.labels,
        precision=precision_of(path),
    )


def _image(
    path: Path, model: Model, normalisation: Normalisation | None, shapes: Sequence[InputShape]
) -> ImageInput | None:
    """Return the normalisation of the image input; uint8 inputs without a scale are pixels."""
    with _usage_errors():
        shape = image_shape(path, model, _plain(shapes))
    if normalisation is None and shape is not None and model.inputs[0].dtype == "uint8":
        normalisation = Normalisation(scale=1.0)
    if shape is None or normalisation is None:
        return None
    return ImageInput(shape, normalisation.mean, normalisation.std, normalisation.scale)


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Raise `UsageError` for shapes that a file does not take, and for free axes that are not
    stated."""
    try:
        yield
    except BadModel as error:
        raise UsageError(str(error)) from None


def _plain(shapes: Sequence[InputShape]) -> list[dict[str, object]]:
    """Return shapes as `input_shapes` takes them."""
    return [msgspec.structs.asdict(each) for each in shapes]
