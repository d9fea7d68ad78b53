"""Trained networks by name: published ones, files of weights, modules of the user's code."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.graph.modules import float32_on_cpu
from hwnas.networks.factory import user_module
from hwnas.networks.folder import architecture_in, weights_in
from hwnas.networks.names import kind_of
from hwnas.networks.weights import read_slices, read_trained
from hwnas.pretrained.hub import load_timm
from hwnas.pretrained.identify import load_file
from hwnas.pretrained.load import load_source
from hwnas.pretrained.modules import CROP, from_module
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import Preprocessing, is_source
from hwnas.pretrained.weights import without_counters
from hwnas.training.description import read_description


def load_pretrained(
    name: str, input_shape: tuple[int, int, int] | None = None
) -> PretrainedNetwork:
    """Return the trained network that ``name`` refers to, rebuilt from blocks; nothing is
    downloaded.

    ``name`` is any form of `hwnas.networks.names` that has weights; ``module:factory`` runs the
    user's code and needs an ``input_shape``. Raises `HwnasError` that says how to get weights that
    are not on this machine, and `UsageError` for a network without weights or that is no chain of
    blocks.
    """
    path = Path(name)
    match kind_of(name):
        case "timm":
            return load_timm(name)
        case "folder":
            return _of_folder(path)
        case "weights":
            described = path.suffix == ".safetensors" and read_description(path) is not None
            return _of_training(path) if described else load_file(path)
        case "module":
            if input_shape is None:
                raise UsageError(
                    f"{name}: a module of your own needs the size of its images, such as "
                    "--resolution 224 or --input-shape 3x224x224"
                )
            return from_module(float32_on_cpu(user_module(name)), input_shape, name)
        case "published" if is_source(name):
            return load_source(name)
        case "model" | "program":
            raise UsageError(
                f"{name}: its weights are those of a compiled network; give the folder of its run "
                "or training, its file of weights, or module:factory"
            )
        case _:
            raise UsageError(
                f"{name}: has no weights; train it by `hwnas train --architecture {name}`, and "
                "give the folder of the training"
            )


def _of_folder(folder: Path) -> PretrainedNetwork:
    """Return the network that a run delivered, or that of a training."""
    architecture_in(folder)  # says what is missing
    path = weights_in(folder)
    if path is None:
        raise InvalidFile(
            str(folder), "its network has no weights yet; finish the training by --resume"
        )
    return _of_training(path)


def _of_training(path: Path) -> PretrainedNetwork:
    """Return the network of a file that hwnas wrote."""
    trained = read_trained(path)
    architecture, normalisation, classes = (
        trained.description.architecture,
        trained.description.normalisation,
        trained.description.classes,
    )
    if normalisation is None:
        raise InvalidFile(str(path), "does not say how its images are normalised")
    size = architecture.input_shape[1]
    return PretrainedNetwork(
        # the digest, because latency models are stored by the name of the network
        name=f"{_title(path)}-{architecture.digest[:6]}",
        architecture=_in_float(architecture),
        weights=without_counters(trained.weights),
        preprocessing=Preprocessing(
            size, round(size / CROP), mean=normalisation.mean, std=normalisation.std
        ),
        source=str(path),
        classes=classes,
        slices=read_slices(path.parent),
    )


def _title(path: Path) -> str:
    """Return the name of the folder of a training or a run, for a file of weights in it."""
    folder = path.resolve().parent
    return folder.parent.parent.name if folder.parent.name == "training" else folder.name


def _in_float(architecture: Architecture) -> Architecture:
    blocks = tuple(msgspec.structs.replace(b, precision="fp32") for b in architecture.blocks)
    return msgspec.structs.replace(architecture, blocks=blocks)
