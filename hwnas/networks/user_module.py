"""What `hwnas export` compiles: a run's network, an architecture's, or a module of the user's."""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.data.datasets import load_dataset, normalise
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES
from hwnas.networks.resolve import find_network
from hwnas.networks.trained import trained_network
from hwnas.nn.build import build
from hwnas.training.checkpoint import load_checkpoint

Shape = tuple[int, int, int]


class Named(NamedTuple):
    """A network to compile."""

    module: nn.Module
    input_shape: Shape
    architecture: Architecture | None
    trained: bool
    """False: its weights are random."""


class Images(NamedTuple):
    """What a file is verified on."""

    images: np.ndarray
    """Normalised, ``[N, C, H, W]``."""
    labels: np.ndarray | None
    source: str


def find_module(what: str, input_shape: Shape | None, checkpoint: Path | None) -> Named:
    """Return the network that ``what`` names: see the command's help.

    ``module:factory`` runs the user's own code: the module is imported, also from the current
    folder, and its factory called. Raises `UsageError` for what cannot be meant.
    """
    if ":" in what and not Path(what).exists():
        return _own(what, input_shape, checkpoint)
    if what.endswith(".py") or Path(f"{what}.py").is_file():
        raise UsageError(
            f"{what}: a module of your own is module:factory, e.g. {_stem(what)}:NAME (run in its "
            "folder)"
        )
    architecture = find_network(what, input_shape=input_shape)
    if input_shape not in (None, architecture.input_shape):
        raise UsageError(f"{what} takes images of {architecture.input_shape}, not {input_shape}")
    trained = Path(what) / "training" / architecture.digest
    if checkpoint is None and (trained / "network.safetensors").exists():
        network = trained_network(architecture, trained)
        return Named(network, architecture.input_shape, architecture, True)
    network = build(architecture)
    _load(network, checkpoint)
    return Named(network.eval(), architecture.input_shape, architecture, checkpoint is not None)


def find_images(data: str | None, count: int, shape: Shape) -> Images:
    """Return validation images of a data set, else noise of a fixed seed."""
    if data is None:
        noise = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
        return Images(noise, None, f"{count} images of noise")
    dataset = load_dataset(data, input_shape=shape)
    images = normalise(dataset.valid.images[:count], dataset)
    if not len(images):
        raise UsageError(f"{data}: has no images to verify with")
    return Images(images, dataset.valid.labels[:count], f"{len(images)} images of {dataset.name}")


def calibration_images(data: str, shape: Shape) -> np.ndarray:
    """Return training images to find the ranges of int8 with, normalised ``[N, C, H, W]``."""
    dataset = load_dataset(data, input_shape=shape)
    order = np.random.default_rng(0).permutation(len(dataset.train.labels))[:CALIBRATION_IMAGES]
    return normalise(dataset.train.images[order], dataset)


def _own(what: str, input_shape: Shape | None, checkpoint: Path | None) -> Named:
    name, _, factory = what.partition(":")
    if not name or not factory or "/" in name or name.endswith(".py"):
        raise UsageError(f"{what}: expected module:factory, e.g. {_stem(name)}:{factory or 'NAME'}")
    if input_shape is None:
        raise UsageError(f"{what}: a module of your own needs --input-shape, e.g. 3x224x224")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = import_module(name)
    except ImportError as error:
        raise UsageError(f"{what}: cannot import {name!r} ({error})") from None
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: importing {name!r} raised {_said(error)}") from error
    if not hasattr(found, factory):
        near = get_close_matches(factory, vars(found), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{what}: {name!r} has no {factory!r}{hint}")
    make: Any = getattr(found, factory)
    try:
        module = make() if callable(make) and not isinstance(make, nn.Module) else make
    except (Exception, SystemExit) as error:
        raise UsageError(f"{what}: {factory}() raised {_said(error)}") from error
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise UsageError(f"{what}: expected a torch.nn.Module, got {kind}")
    _load(module, checkpoint)
    return Named(module.eval(), input_shape, None, True)


def _said(error: BaseException) -> str:
    """Return in one line what a user's code raised, and where."""
    first = (str(error).strip().splitlines() or ["nothing said"])[0]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
    return f"{type(error).__name__}: {first}{'' if isinstance(error, SyntaxError) else place}"


def _stem(name: str) -> str:
    """Return how a file of Python is imported, from its folder."""
    return Path(name).name.removesuffix(".py") or "MODULE"


def _load(module: nn.Module, checkpoint: Path | None) -> None:
    if checkpoint is None:
        return
    weights, _ = load_checkpoint(checkpoint)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise InvalidFile(str(checkpoint), f"does not fit this network: {first}") from None
