"""A PyTorch module as an architecture of hwnas with the module's weights."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hwnas.architecture.architecture import NORM_EPS, Architecture, Genotype
from hwnas.errors import UsageError, first_line
from hwnas.nn.build import build
from hwnas.pretrained.recognise.blocks import ModulePairs, read_blocks
from hwnas.pretrained.recognise.kinds import IMAGE, Layer
from hwnas.pretrained.recognise.layers import WITH_WEIGHTS, layers_of
from hwnas.pretrained.weights import COUNTER

Shape = tuple[int, int, int]

MAX_RELATIVE_ERROR = 1e-5
"""Largest difference of logits, as a share of the largest, at which two networks are the same."""


class Recognised(NamedTuple):
    """The architecture of a module and the weights of it, under our names."""

    architecture: Architecture
    weights: dict[str, Tensor]


def recognise(module: nn.Module, input_shape: Shape, name: str = "") -> Recognised:
    """Return ``module`` as an architecture for images of ``input_shape``, with its weights.

    The module's layers are read as blocks, by what they compute and not by their names; each weight
    that it uses in evaluation is used exactly once. ``module`` may be on the device ``meta``; then
    so are the weights. Raises `UsageError` that names the first module that hwnas cannot rebuild.
    """
    name = name or type(module).__name__
    module.eval()
    _check_initialised(module, name)
    layers, output = layers_of(module)
    _check_channels(layers, input_shape, name)
    blocks, modules = read_blocks(layers, output, input_shape, name)
    eps, classes = _norm_eps(module, name), blocks[-1].out_channels
    architecture = Architecture(Genotype(name, ()), blocks, input_shape, classes, norm_eps=eps)
    used = {layer.path for layer in layers}
    weights = renamed(module.state_dict(), modules, name, used)
    with torch.device("meta"):
        expected = build(architecture).state_dict()
    _complete_norms(weights, expected, eps)
    return Recognised(architecture, _reshaped(weights, expected))


def verify(module: nn.Module, network: nn.Module, input_shape: Shape, name: str) -> None:
    """Compare the logits of two networks on an image of noise.

    Raises `UsageError` if they differ by more than `MAX_RELATIVE_ERROR`, or if ``module`` takes no
    such image.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, *input_shape), generator=generator)
    with torch.inference_mode():
        logits = network.eval()(image)
        try:
            expected = module.eval()(image)
        except Exception as error:  # whatever the module's code raises
            shape = "x".join(map(str, input_shape))
            message = f"{name}: raises an error for an image of {shape}: {first_line(error)}"
            raise UsageError(message) from error
    error = ((logits - expected).abs().max() / expected.abs().max()).item()
    if not error <= MAX_RELATIVE_ERROR:
        raise UsageError(
            f"{name}: rebuilt from its blocks, its logits differ by {error:.1e} of the largest, "
            f"expected at most {MAX_RELATIVE_ERROR:.0e}{_with_own_code(module)}"
        )


def _with_own_code(module: nn.Module) -> str:
    """Return a remark on the first layer whose class is not PyTorch's, which may be the cause."""
    for path, part in module.named_modules():
        if isinstance(part, WITH_WEIGHTS) and not type(part).__module__.startswith("torch."):
            return (
                f"; {path} ({type(part).__name__}) may compute something else than its base class"
            )
    return ""


def renamed(
    source: Mapping[str, Tensor], modules: ModulePairs, name: str, used: Container[str]
) -> dict[str, Tensor]:
    """Return the weights ``source`` under our names; each is used exactly once.

    A pair may also name single tensors. Modules that are not among the ``used`` ones, such as
    auxiliary classifiers, have no part in evaluation and are left out.
    """
    rest = {key: value for key, value in source.items() if not key.endswith(COUNTER)}
    weights: dict[str, Tensor] = {}
    for ours, theirs in modules.items():
        prefix = f"{theirs}."
        keys = [key for key in rest if key.rpartition(".")[0] == theirs]
        if theirs in rest:
            weights[ours] = rest.pop(theirs)
        elif f"{prefix}weight" not in keys:
            why = "computes its weight, e.g. by weight norm; remove that first"
            if f"{prefix}weight" in source:
                why = "is a layer that is used more than once"
            raise UsageError(f"{name}: {theirs} {why}")
        for key in keys:
            weights[f"{ours}.{key.removeprefix(prefix)}"] = rest.pop(key)
    for key in rest:
        if (module := key.rpartition(".")[0]) in used or key in used:
            raise UsageError(f"{name}: {module or key} is part of no block")
    return weights


def _check_initialised(module: nn.Module, name: str) -> None:
    for path, parameter in module.named_parameters():
        if is_lazy(parameter):
            raise UsageError(f"{name}: {path} has no shape yet; run it on an image first")


def _check_channels(layers: Sequence[Layer], input_shape: Shape, name: str) -> None:
    stems = [layer.module for layer in layers if layer.inputs == (IMAGE,)]
    for stem in stems:
        if isinstance(stem, nn.Conv2d) and stem.in_channels != input_shape[0]:
            raise UsageError(
                f"{name}: its first convolution takes {stem.in_channels} channels, the images have "
                f"{input_shape[0]}"
            )


def _complete_norms(weights: dict[str, Tensor], expected: Mapping[str, Tensor], eps: float) -> None:
    """Add norms that change nothing after convolutions without, in place.

    Norms get the biases of the convolutions before them, and the scales after them as their gains.
    """
    for key in expected:
        layer, is_variance, _ = key.rpartition("norm.running_var")
        kernel = weights.get(f"{layer}conv.weight")
        if not is_variance or kernel is None:
            continue
        mean = f"{layer}norm.running_mean"
        if key not in weights:
            zeros, ones = kernel.new_zeros(len(kernel)), kernel.new_ones(len(kernel))
            scales = [name for name in weights if name.startswith(f"{layer}norm.")]
            gain = weights.pop(scales[0]).flatten() if scales else ones
            weights |= {f"{layer}norm.weight": gain, f"{layer}norm.bias": zeros}
            weights |= {mean: zeros, key: ones - eps}
        if (bias := weights.pop(f"{layer}conv.bias", None)) is not None:
            weights[mean] = weights[mean] - bias


def _reshaped(weights: dict[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights with linear layers as 1x1 convolutions, or the reverse, where ours are."""
    return {key: tensor.reshape(expected[key].shape) for key, tensor in weights.items()}


def _norm_eps(module: nn.Module, name: str) -> float:
    """Return the epsilon that all batch norms share."""
    eps = NORM_EPS
    norms = [(p, m) for p, m in module.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for path, norm in norms:
        if not norm.affine or norm.running_mean is None:
            raise UsageError(f"{name}: {path} is a norm without weights or running statistics")
        eps = norms[0][1].eps
        if norm.eps != eps:
            raise UsageError(f"{name}: {path} has eps {norm.eps:g}, {norms[0][0]} has {eps:g}")
    return eps
