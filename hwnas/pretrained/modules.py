"""Trained PyTorch modules as networks of blocks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor, nn

from hwnas.pretrained.network import PretrainedNetwork, loaded
from hwnas.pretrained.recognise.network import Shape, recognise, verify
from hwnas.pretrained.sources import Preprocessing
from hwnas.pretrained.weights import check_keys

MERGE_METHODS = ("reparameterize", "switch_to_deploy")
"""Usual names of the method that merges the branches of a block in place."""
REPLACE_METHOD = "fuse"
"""Usual name of the method that returns a module with merged branches."""
CROP = 0.875
"""Usual size of the crop, as a share of the resized image."""


def from_module(
    module: nn.Module, input_shape: Shape, name: str, preprocessing: Preprocessing | None = None
) -> PretrainedNetwork:
    """Return a trained PyTorch module as a network of blocks; the logits of both are compared.

    Without ``preprocessing`` its images are normalised and cropped as is usual for ImageNet. Raises
    `UsageError`, which names the first module that is no block of hwnas.
    """
    architecture, weights = recognise(reparameterised(module), input_shape, name)
    verify(module, loaded(architecture, weights), input_shape, name)
    size = input_shape[1]
    return PretrainedNetwork(
        name=name,
        architecture=architecture,
        weights={key: tensor.detach() for key, tensor in weights.items()},
        preprocessing=preprocessing or Preprocessing(size, round(size / CROP)),
        source=name,
    )


def reparameterised(module: nn.Module) -> nn.Module:
    """Return ``module`` with parallel branches as one convolution each, where its parts can do so.

    RepVGG, MobileOne, RepViT and others have a method for it; the given module is not changed.
    """
    if not any(_merge_method(part) or _replacing(part) for part in module.modules()):
        return module
    merged = copy.deepcopy(module).eval()
    _replace_parts(merged)
    for part in list(merged.modules()):
        if (merge := _merge_method(part)) is not None:
            merge()
    return merged.to(next(module.parameters()).dtype)


def _replace_parts(module: nn.Module) -> None:
    """Replace the parts that return another module for themselves, the outermost first."""
    for name, part in list(module.named_children()):
        replace = _replacing(part)
        other = replace() if replace is not None else None
        if isinstance(other, nn.Module):
            setattr(module, name, other)
        else:
            _replace_parts(part)


def _replacing(module: nn.Module) -> Callable[[], object] | None:
    method = getattr(module, REPLACE_METHOD, None)
    return method if _needs_nothing(method) else None


def _merge_method(module: nn.Module) -> Callable[[], object] | None:
    methods = (getattr(module, name, None) for name in MERGE_METHODS)
    return next((method for method in methods if _needs_nothing(method)), None)


def _needs_nothing(method: object) -> TypeGuard[Callable[[], object]]:
    """Return whether a method can be called without arguments, unlike the method of an autoencoder
    that draws a sample."""
    if not callable(method):
        return False
    try:
        signature(method).bind()
    except TypeError:
        return False
    return True


def with_weights(module: nn.Module, path: Path, weights: Mapping[str, Tensor]) -> nn.Module:
    """Return ``module``, made on the device ``meta``, with ``weights``, in evaluation mode.

    Raises `InvalidFile` that names ``path`` and the first key that is missing, additional or of
    another shape.
    """
    state = module.state_dict()  # has the versions of the modules' layouts
    check_keys(path, weights, state)
    state.update(weights)
    state.update({key: torch.zeros((), dtype=torch.int64) for key in state if key not in weights})
    module.load_state_dict(state, assign=True)
    return module.eval()
