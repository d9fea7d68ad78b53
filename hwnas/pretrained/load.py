"""Loads networks with published weights as blocks of hwnas, and modules of the user's code."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.pretrained.network import PretrainedNetwork, loaded
from hwnas.pretrained.recognise.network import Shape, recognise, verify
from hwnas.pretrained.sources import Preprocessing, Source, find_source, missing, weights_file
from hwnas.pretrained.weights import check_keys, read_weights


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
    weights = read_weights(path, "" if file else source.sha256)
    module = _torchvision_module(source, path, weights)
    network = from_module(module, source.input_shape, name, source.preprocessing)
    return network._replace(
        source=str(path) if file else source.url or source.package,
        licence="" if file else source.about.licence,
        top1=None if file else source.top1,
        classes=() if file else imagenet_classes(),
    )


def from_module(
    module: nn.Module, input_shape: Shape, name: str, preprocessing: Preprocessing | None = None
) -> PretrainedNetwork:
    """Return a trained PyTorch module as a network of blocks; its logits are compared.

    Without ``preprocessing`` its images are those of ImageNet's usual normalisation. Raises
    `UsageError` that names the first module that is no block of hwnas.
    """
    architecture, weights = recognise(module, input_shape, name)
    verify(module, loaded(architecture, weights), input_shape, name)
    size = input_shape[1]
    return PretrainedNetwork(
        name=name,
        architecture=architecture,
        weights={key: tensor.detach() for key, tensor in weights.items()},
        preprocessing=preprocessing or Preprocessing(size, round(size / 0.875)),
        source=name,
    )


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of all published networks."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.DEFAULT.meta["categories"])


def _torchvision_module(source: Source, path: Path, weights: dict[str, Tensor]) -> nn.Module:
    """Return torchvision's module with ``weights``, which may have another number of classes."""
    from torchvision.models import get_model

    def make(num_classes: int) -> nn.Module:
        with torch.device("meta"):
            return get_model(source.factory, weights=None, num_classes=num_classes)

    module = make(num_classes=1000)
    classifier = [key for key, value in module.state_dict().items() if value.ndim == 2][-1]
    if classifier in weights and weights[classifier].ndim == 2:
        module = make(num_classes=len(weights[classifier]))
    state = module.state_dict()  # has the versions of the modules' layouts
    check_keys(path, weights, state)
    state.update(weights)
    state.update({key: torch.zeros((), dtype=torch.int64) for key in state if key not in weights})
    module.load_state_dict(state, assign=True)
    return module.eval()
