"""Loads networks with published weights as blocks of hwnas."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from hwnas.architecture.architecture import Architecture
from hwnas.pretrained.families.efficientnet_lite import lite_modules, lite_network
from hwnas.pretrained.families.layout import ModulePairs, our_weights
from hwnas.pretrained.families.ofa_resnet import (
    RESNET,
    resnet_modules,
    resnet_network,
    resnet_slices,
)
from hwnas.pretrained.families.once_for_all import (
    largest_network,
    ofa_modules,
    plain_keys,
    proxyless_network,
    trained_slices,
    without_matrices,
)
from hwnas.pretrained.modules import from_module, with_weights
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.recognise.network import recognise
from hwnas.pretrained.sources import (
    CollectionName,
    Source,
    find_source,
    imagenet_classes,
    missing,
    weights_file,
)
from hwnas.pretrained.weights import read_weights
from hwnas.spaces.json_networks import IMAGENET_CLASSES
from hwnas.spaces.published import adapt


def load_source(name: str, file: Path | None = None) -> PretrainedNetwork:
    """Load a network of ``sources.toml`` by its name.

    ``file`` replaces the published weights by others of the same network, which may have another
    number of classes. Raises `UnknownName`, `HwnasError` if the weights are not on this machine, or
    `InvalidFile`. Nothing is downloaded.
    """
    source = find_source(name)
    path = file or weights_file(source)
    if path is None:
        raise missing(source)
    if file is not None:
        return load_weights(source, file, read_weights(file))
    network = load_weights(source, path, read_weights(path, source.sha256))
    return network._replace(
        source=source.url or source.package,
        licence=source.about.licence,
        top1=source.top1,
        classes=imagenet_classes(),
    )


def source_architecture(source: Source) -> Architecture:
    """Return the network of ``source``, whose weights are not read."""
    return ARCHITECTURES[source.collection](source)


def load_weights(source: Source, path: Path, weights: dict[str, Tensor]) -> PretrainedNetwork:
    """Return the network of ``source`` with weights of the user's own, read from ``path``.

    Raises `WrongKeys` if they belong to another network.
    """
    return LOADERS[source.collection](source, path, weights)._replace(source=str(path))


def _torchvision(source: Source, path: Path, weights: dict[str, Tensor]) -> PretrainedNetwork:
    module = _torchvision_module(source, path, weights)
    return from_module(module, source.input_shape, source.name, source.preprocessing)


def _lite(source: Source, path: Path, weights: dict[str, Tensor]) -> PretrainedNetwork:
    classes = classes_in(weights, "_fc.weight")
    network = lite_network(source.name, source.preprocessing.size_px, classes)
    return _family(source, network, our_weights(path, weights, network, lite_modules(network)))


def _proxyless(source: Source, path: Path, weights: dict[str, Tensor]) -> PretrainedNetwork:
    network = proxyless_network(source.name)
    return _han_lab(source, path, plain_keys(weights), network, ofa_modules(network))


def _once_for_all(source: Source, path: Path, weights: dict[str, Tensor]) -> PretrainedNetwork:
    plain, network = plain_keys(weights), _largest(source)
    if source.name == RESNET:
        modules, slices = resnet_modules(network), resnet_slices(network)
    else:
        modules, slices = ofa_modules(network), trained_slices(path, plain, network)
    whole = _han_lab(source, path, without_matrices(plain), network, modules)
    return whole._replace(slices=slices)


def _largest(source: Source) -> Architecture:
    """Return the largest network of a supernet of Once-for-all."""
    size = source.preprocessing.size_px
    return resnet_network(size) if source.name == RESNET else largest_network(source.name, size)


def _han_lab(
    source: Source,
    path: Path,
    plain: dict[str, Tensor],
    network: Architecture,
    modules: ModulePairs,
) -> PretrainedNetwork:
    network = adapt(network, network.input_shape, classes_in(plain, "classifier.linear.weight"))
    return _family(source, network, our_weights(path, plain, network, modules))


def _family(source: Source, network: Architecture, weights: dict[str, Tensor]) -> PretrainedNetwork:
    return PretrainedNetwork(source.name, network, weights, source.preprocessing, source.name)


OLD_DENSE_KEY = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
AUXILIARY = re.compile(r"aux[12]\.|AuxLogits\.")
"""Keys of the auxiliary classifiers of GoogLeNet and Inception."""
Loader = Callable[[Source, Path, dict[str, Tensor]], PretrainedNetwork]
LOADERS: dict[CollectionName, Loader] = {
    "torchvision": _torchvision,
    "efficientnet-lite": _lite,
    "proxylessnas": _proxyless,
    "once-for-all": _once_for_all,
}


ARCHITECTURES: dict[CollectionName, Callable[[Source], Architecture]] = {
    "torchvision": lambda source: (
        recognise(_unfilled(source), source.input_shape, source.name).architecture
    ),
    "efficientnet-lite": lambda source: lite_network(source.name, source.preprocessing.size_px),
    "proxylessnas": lambda source: proxyless_network(source.name),
    "once-for-all": _largest,
}


def classes_in(weights: Mapping[str, Tensor], classifier: str) -> int:
    """Return the number of classes of a file, by the key of its last layer; 1,000 without it."""
    return len(weights[classifier]) if classifier in weights else IMAGENET_CLASSES


def _torchvision_module(source: Source, path: Path, weights: dict[str, Tensor]) -> nn.Module:
    """Return torchvision's module with ``weights``, which may have another number of classes."""
    # the published files of DenseNet have keys of an older PyTorch: norm.1 instead of norm1
    weights = {OLD_DENSE_KEY.sub(r"\1\2", key): value for key, value in weights.items()}
    if "aux_logits" in source.arguments:
        weights = {key: value for key, value in weights.items() if not AUXILIARY.match(key)}
    module = _unfilled(source)
    classifier = [key for key, value in module.state_dict().items() if value.ndim > 1][-1]
    if (classes := classes_in(weights, classifier)) != IMAGENET_CLASSES:
        module = _unfilled(source, classes)
    return with_weights(module, path, weights)


def _unfilled(source: Source, num_classes: int = IMAGENET_CLASSES) -> nn.Module:
    """Return torchvision's module on the device ``meta``."""
    from torchvision.models import get_model

    arguments: dict[str, Any] = {"weights": None, "num_classes": num_classes, **source.arguments}
    with _EmptyOnMeta():
        return get_model(source.factory, **arguments).to("meta")


class _EmptyOnMeta(TorchFunctionMode):
    """Makes tensors without values, as those of parameters, on the device ``meta``.

    Unlike ``torch.device("meta")`` it does not affect values that a constructor computes with, such
    as the widths of RegNet.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)
