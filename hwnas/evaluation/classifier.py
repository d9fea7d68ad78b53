"""Model files as classifiers: which images they take, and the names of their classes.

Files and bundles of hwnas state both; for other files the user states them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.runtimes import COMPILED
from hwnas.data.images import Shape, normalise_pixels
from hwnas.deploy.bundle import read_bundle
from hwnas.deploy.find import find_model_file
from hwnas.deploy.interface import NAME as INTERFACE
from hwnas.deploy.interface import read_interface
from hwnas.deploy.stated import (
    NORMALISATIONS,
    InputValues,
    Normalisation,
    StatedModel,
    read_labels,
    stated_in,
)
from hwnas.devices.worker.model import InputTensor, Model
from hwnas.errors import ExportError, InvalidFile, UsageError
from hwnas.export.metadata.output import gives_probabilities
from hwnas.export.recipe import format_of
from hwnas.export.verification.run_model import open_file, run_image
from hwnas.report.report import Report
from hwnas.report.schema import DatasetSummary

K = TypeVar("K")


class Classifier(msgspec.Struct, frozen=True):
    """A model file, the normalisation of its images, and the meaning of its outputs."""

    path: Path
    input_shape: Shape
    normalisation: Normalisation
    labels: tuple[str, ...]
    """Names of the classes; empty if they are unknown."""
    runtime: str
    """Runtime with its version."""
    gives_probabilities: bool
    """Whether the outputs are probabilities; else they are logits."""
    trained_on: DatasetSummary | None = None
    """Data set of the run that the file belongs to, if it is known."""

    def outputs(
        self, images: Iterable[tuple[K, NDArray[np.uint8]]]
    ) -> Iterator[tuple[K, NDArray[np.float32]]]:
        """Yield the outputs ``[classes]`` of each image ``[C, H, W]``, beside its key.

        Raises `ExportError` for outputs that are not finite, or not as many as there are labels.
        """
        model = open_file(self.path)
        for key, image in images:
            values = run_image(self.path, model, normalise_pixels(image, *self.normalisation))
            if values.size != max(values.shape):
                raise UsageError(
                    f"{self.path}: gives {list(values.shape)}, no classes; `hwnas predict` and "
                    "`hwnas evaluate` take networks that give [1, classes]"
                )
            yield key, self._checked(values.reshape(-1).astype(np.float32))

    def scores(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities ``[N, classes]`` of outputs."""
        if self.gives_probabilities:
            return outputs
        values = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return values / values.sum(axis=1, keepdims=True)

    def _checked(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if not np.isfinite(values).all():
            raise ExportError(f"{self.path}: an output is not a finite number")
        if self.labels and len(self.labels) != len(values):
            raise UsageError(
                f"{self.path}: has {len(values)} outputs, but there are {len(self.labels)} labels"
            )
        return values


def find_classifier(
    model: Path, input_values: InputValues | None = None, labels: Path | None = None
) -> Classifier:
    """Return the classifier of a model file, a bundle or a run folder.

    ``input_values`` and ``labels``, a file with a name in each line, replace what the file states;
    they are for files of other programs. Raises `UsageError` if there is no model, or more than
    one.
    """
    source = _stated(model).given(input_values, labels)
    if source.normalisation is None:
        raise UsageError(
            f"{source.path}: does not state which values it takes (it was compiled without --data "
            f"or by another program); state them by --input, one of {', '.join(NORMALISATIONS)}"
        )
    runtime, opened = COMPILED[format_of(source.path)], open_file(source.path)
    return Classifier(
        source.path,
        _image_shape(source.path, opened),
        source.normalisation,
        source.labels,
        f"{runtime.title} {opened.version.rpartition(' ')[2]}",
        gives_probabilities(source.path),
        _training_data(source.path),
    )


def _stated(model: Path) -> StatedModel:
    path = find_model_file(str(model))
    if not (model / INTERFACE).exists():
        return stated_in(path)
    manifest, image = read_bundle(model), read_interface(model).image
    return StatedModel(
        path,
        None if image is None else Normalisation(image.mean, image.std, image.scale),
        read_labels(model / "labels.txt") if "labels.txt" in manifest.files else (),
    )


def _training_data(model: Path) -> DatasetSummary | None:
    """Return the data set of the run in whose ``export`` or ``bundle`` folder a file is."""
    report = model.resolve().parent.parent / "report.json"
    with suppress(InvalidFile):  # there is none, or it belongs to another program
        return Report.read(report).dataset
    return None


def _image_shape(path: Path, opened: Model) -> Shape:
    """Return the shape of the images of a classifier. Raises `UsageError` for other networks."""
    if len(opened.inputs) > 1 or len(opened.output_names) > 1:
        raise UsageError(
            f"{path}: has {len(opened.inputs)} inputs ({_listed(opened.inputs)}) and "
            f"{len(opened.output_names)} outputs ({', '.join(opened.output_names)}): no classifier "
            "of images, which has one each; `hwnas benchmark` and `hwnas verify` take it"
        )
    layout = COMPILED[format_of(path)].layout
    expected = f"expected [1, {', '.join(layout[1:])}] with C 1 or 3 and fixed H and W"
    tensor = next(iter(opened.inputs))
    shape = (1, *tensor.shape[1:])
    if len(tensor.shape) == 4 and all(isinstance(size, int) for size in shape):
        sizes = tuple(map(int, shape))
        channels, height, width = COMPILED[format_of(path)].image_shape(sizes)
        fits = tensor.shape[0] == 1 or isinstance(tensor.shape[0], str)
        if fits and channels in (1, 3) and min(height, width) > 1:
            return channels, height, width
    raise InvalidFile(str(path), f"its input is {list(tensor.shape)}, {expected}")


def _listed(inputs: Iterable[InputTensor]) -> str:
    return ", ".join(tensor.name for tensor in inputs)
