"""Trained networks as users name them: published ones, files of weights, modules of their code."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile, UsageError
from hwnas.networks.folder import architecture_in, weights_in
from hwnas.networks.user_module import Shape, load_network
from hwnas.networks.weights import read_trained
from hwnas.pretrained.hub import is_timm, load_timm
from hwnas.pretrained.identify import SUFFIXES, load_file
from hwnas.pretrained.load import load_source
from hwnas.pretrained.modules import CROP, from_module
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import Preprocessing, is_source
from hwnas.pretrained.weights import without_counters
from hwnas.training.description import read_description


def load_pretrained(name: str, input_shape: Shape | None = None) -> PretrainedNetwork:
    """Return the trained network that ``name`` means, rebuilt from blocks; nothing is downloaded.

    ``name`` is one of `hwnas networks list`; ``timm:NAME`` or ``local-dir:FOLDER`` of timm; a file
    of weights of such a network; the folder of a run or of a training, or a file of weights there;
    or ``module:factory``, which runs the user's code and needs an ``input_shape``. Raises
    `HwnasError` that says how to get weights that are not on this machine, and `UsageError` for
    what is no trained network or no chain of blocks.
    """
    path = Path(name)
    if is_timm(name):
        return load_timm(name)
    if path.is_dir() and not is_source(name):
        return _of_folder(path)
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise InvalidFile(name, "no such file")
        described = path.suffix == ".safetensors" and read_description(path) is not None
        return _of_training(path) if described else load_file(path)
    if ":" in name:
        if input_shape is None:
            raise UsageError(f"{name}: a module of your own needs an input shape, e.g. 3x224x224")
        return from_module(load_network(name, input_shape).module, input_shape, name)
    if "/" in name:
        raise InvalidFile(
            name, "no such file or folder; expected a run, a training, or a file of weights"
        )
    return load_source(name)


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
    )


def _title(path: Path) -> str:
    """Return the name of the folder of a training or a run, for a file of weights in it."""
    folder = path.resolve().parent
    return folder.parent.parent.name if folder.parent.name == "training" else folder.name


def _in_float(architecture: Architecture) -> Architecture:
    blocks = tuple(msgspec.structs.replace(b, precision="fp32") for b in architecture.blocks)
    return msgspec.structs.replace(architecture, blocks=blocks)
