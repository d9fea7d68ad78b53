"""Photos without labels: the predictions of a trained network replace the labels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from msgspec.structs import replace

from hwnas.console import Console
from hwnas.data.images import fit_image, normalise_pixels
from hwnas.data.photos.labelled import FilePhotos, ReadingOptions
from hwnas.data.photos.reading import decoded
from hwnas.data.photos.sources.answers import SUFFIX, Answers, is_unlabelled, unlabelled_photos
from hwnas.errors import InvalidFile, UsageError
from hwnas.files import home, write_json
from hwnas.networks.pretrained import load_pretrained
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.processes import cores
from hwnas.specialize.spec import RunSpec

BATCH_IMAGES = 16


def with_answers(spec: RunSpec, folder: Path | None, console: Console) -> RunSpec:
    """Return ``spec`` with a file of predictions in the place of a folder of photos without labels.

    The predictions are those of the network that the run starts from, at its own resolution. The
    file is in the ``folder`` of the run, or in hwnas's home. Data with labels are unchanged.
    """
    if not spec.starts_trained or not is_unlabelled(spec.data):
        return spec
    if spec.siblings:
        raise UsageError(
            f"--siblings {','.join(spec.siblings)}: {spec.data} has no labels to tune them with"
        )
    source = Path(spec.data).expanduser().resolve()
    path = (folder or home() / "cache") / "data" / f"{source.name}{SUFFIX}"
    if folder is None or not path.exists():
        size = (spec.resolutions or (0,))[0]
        network = load_pretrained(spec.pretrained, (3, size, size) if size else None)
        console.say(
            f"{spec.data}: no labels, so {network.name} is cut for its own "
            f"{network.architecture.num_classes:,} classes, and its predictions replace the labels"
        )
        options = ReadingOptions(spec.skip_broken, console.say, console.step)
        write_json(path, answers(network, source, options))
    return replace(spec, data=str(path.resolve()))


def answers(network: PretrainedNetwork, folder: Path, options: ReadingOptions) -> Answers:
    """Return the class that a network predicts for each photo in ``folder``."""
    photos = unlabelled_photos(folder)
    count = network.architecture.num_classes
    classes = network.classes or tuple(map(str, range(count)))
    labels: dict[str, int] = {}
    broken: dict[str, str] = {}
    module = network.network()
    with options.step(f"answers of {network.name}") as progress, torch.inference_mode():
        for names, images in _batches(network, photos, broken):
            top = module(torch.from_numpy(images)).argmax(1).tolist()
            labels |= dict(zip(names, top, strict=True))
            progress(len(labels), len(photos), "images")
    options.refuse(str(folder), broken, len(photos))
    return Answers(str(folder), network.name, classes, labels)


def _batches(
    network: PretrainedNetwork, photos: FilePhotos, broken: dict[str, str]
) -> Iterator[tuple[list[str], np.ndarray]]:
    """Yield names and images ``[N, C, H, W]``, normalised for the network.

    Photos that cannot be read are added to ``broken``, with the reason by their names.
    """
    shape, form = network.architecture.input_shape, network.preprocessing

    def read(row: int) -> np.ndarray | None:
        try:
            with photos.open(row) as image:
                return fit_image(decoded(image), shape)
        except InvalidFile as error:
            broken[error.file] = error.why
            return None

    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(photos), BATCH_IMAGES):
            names = photos.names[start : start + BATCH_IMAGES]
            images = list(pool.map(read, range(start, start + len(names))))
            readable = [each for each in zip(names, images, strict=True) if each[1] is not None]
            if readable:
                stacked = np.stack([image for _, image in readable if image is not None])
                yield [name for name, _ in readable], normalise_pixels(stacked, form.mean, form.std)
