"""Networks of the package timm: from the cache of the Hugging Face hub, or from a local folder.

``timm:ARCHITECTURE.TAG`` is the repository of that name of timm, ``timm:USER/NAME`` another one;
``local-dir:FOLDER`` is a folder with the same files, as timm writes it.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import torch
from torch import nn

from hwnas.errors import HwnasError, InvalidFile, UsageError, first_line
from hwnas.files import read_json
from hwnas.pretrained.modules import from_module, with_weights
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TIMM_PREFIXES,
    Preprocessing,
    imagenet_classes,
)
from hwnas.pretrained.weights import read_weights

HUB, FOLDER = TIMM_PREFIXES
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Names of the file with the weights, in the order of preference."""


def is_timm(name: str) -> bool:
    """Return whether ``name`` means a network of timm."""
    return name.startswith(TIMM_PREFIXES)


def load_timm(name: str) -> PretrainedNetwork:
    """Load a network of timm without a download.

    Raises `UsageError` if timm is not installed or the network is no chain of blocks, `HwnasError`
    if its files are not on this machine.
    """
    files = _files(name)
    config = read_json(files.config, _Config)
    module = with_weights(_module(name, config), files.weights, read_weights(files.weights))
    shape, preprocessing = _preprocessing(files.config, config.pretrained_cfg)
    network = from_module(module, shape, name, preprocessing)
    return network._replace(
        source=str(files.weights.parent)
        if name.startswith(FOLDER)
        else f"huggingface.co/{files.repo}",
        licence=config.pretrained_cfg.license or "",
        classes=_classes(config),
    )


def fetch_timm(name: str) -> Path:
    """Download a network of timm into the hub's cache; return its folder there."""
    repo = _repository(name)
    hub = _package("huggingface_hub")
    try:
        hub.hf_hub_download(repo, CONFIG)
        return Path(hub.hf_hub_download(repo, WEIGHTS[0])).parent
    except Exception as error:  # the hub's errors are of many packages
        raise HwnasError(
            f"{name}: the download failed ({first_line(error)}); try again, or give a folder with "
            f"{CONFIG} and {WEIGHTS[0]} of huggingface.co/{repo} as {FOLDER}FOLDER"
        ) from None


class _Pretrained(msgspec.Struct, frozen=True):
    """The preprocessing of images in `_Config`."""

    input_size: tuple[int, int, int]
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    crop_pct: float = 0.875
    interpolation: str = "bicubic"
    license: str | None = None
    label_names: tuple[str, ...] | None = None


class _Config(msgspec.Struct, frozen=True):
    """``config.json``."""

    architecture: str
    pretrained_cfg: _Pretrained
    num_classes: int = 1000
    model_args: dict[str, Any] = {}
    label_names: tuple[str, ...] | None = None


class _Files(NamedTuple):
    repo: str
    config: Path
    weights: Path


def _files(name: str) -> _Files:
    if name.startswith(FOLDER):
        return _local_files(Path(name.removeprefix(FOLDER)).expanduser())
    repo = _repository(name)
    config, *weights = (_cached(repo, file) for file in (CONFIG, *WEIGHTS))
    file = next((file for file in weights if file is not None), None)
    if config is None or file is None:
        raise HwnasError(
            f"{name}: its weights are not on this machine; get them by `hwnas networks fetch "
            f"{name}`, or give a folder with {CONFIG} and {WEIGHTS[0]} as {FOLDER}FOLDER"
        )
    return _Files(repo, config, file)


def _local_files(folder: Path) -> _Files:
    weights = next((folder / file for file in WEIGHTS if (folder / file).is_file()), None)
    if weights is None or not (folder / CONFIG).is_file():
        raise InvalidFile(str(folder), f"expected a folder with {CONFIG} and {WEIGHTS[0]}")
    return _Files("", folder / CONFIG, weights)


def _cached(repo: str, file: str) -> Path | None:
    path = _package("huggingface_hub").try_to_load_from_cache(repo, file)
    return Path(path) if isinstance(path, str) else None


def _repository(name: str) -> str:
    """Return the repository of the hub; without a tag, of timm's default weights."""
    name = name.removeprefix(HUB)
    if "/" in name or "." in name:
        return name if "/" in name else f"timm/{name}"
    config = _package("timm").get_pretrained_cfg(name, allow_unregistered=True)
    tag = getattr(config, "tag", "")
    return f"timm/{name}.{tag}" if tag else f"timm/{name}"


def _module(name: str, config: _Config) -> nn.Module:
    timm = _package("timm")
    try:
        with torch.device("meta"):
            return timm.create_model(
                config.architecture,
                pretrained=False,
                **config.model_args | {"num_classes": config.num_classes},
            )
    except (RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"{name}: timm cannot make it ({first_line(error)})") from None


def _preprocessing(file: Path, config: _Pretrained) -> tuple[tuple[int, int, int], Preprocessing]:
    _, height, width = config.input_size
    if height != width:
        raise InvalidFile(str(file), f"has images of {height}x{width} pixels, expected squares")
    interpolation: Literal["bilinear", "bicubic"]
    interpolation = "bilinear" if config.interpolation == "bilinear" else "bicubic"
    resize = math.floor(height / config.crop_pct)
    preprocessing = Preprocessing(height, resize, interpolation, config.mean, config.std)
    return config.input_size, preprocessing


def _classes(config: _Config) -> tuple[str, ...]:
    names = config.label_names or config.pretrained_cfg.label_names
    if names is None and config.num_classes == 1000:
        return imagenet_classes()
    return names or ()


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise UsageError("networks of timm need it: pip install 'hwnas[timm]'") from None
