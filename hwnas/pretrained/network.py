"""A network with its published weights, for images and classes of the user's choice."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.errors import UsageError
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices
from hwnas.pretrained.sources import Preprocessing
from hwnas.pretrained.weights import COUNTER
from hwnas.spaces.published import adapt

STEMS = ("blocks.0", "blocks.0.layers.first")
"""Names of the first layer, which takes the image."""


class PretrainedNetwork(NamedTuple):
    """An architecture with trained weights under the names of `Network`."""

    name: str
    architecture: Architecture
    weights: dict[str, Tensor]
    preprocessing: Preprocessing
    source: str
    """File or URL that the weights come from."""
    licence: str = ""
    top1: float | None = None
    """Published accuracy in percent on the validation images of ImageNet."""
    classes: tuple[str, ...] = ()
    """Names of the classes in their order; empty where they are not known."""
    slices: TrainedSlices = NO_SLICES
    """The blocks that were trained to be cut, see `hwnas.nn.elastic.slices`."""

    def network(self) -> Network:
        """Return the network with copies of the weights, in evaluation mode."""
        return loaded(self.architecture, self.weights)

    def at(
        self, input_shape: tuple[int, int, int], classes: tuple[str, ...] = ()
    ) -> PretrainedNetwork:
        """Return the network for other images and, if ``classes`` are given, other classes.

        A new classifier starts at zero; the classifier of the network's own classes and all other
        weights stay. The resize before the crop changes in proportion. For grey images the stem is
        summed over its inputs (`grey_stem`).
        """
        channels, size = input_shape[:2]
        weights, preprocessing = self.weights, self.preprocessing
        if channels != self.architecture.input_shape[0]:
            weights, preprocessing = grey_stem(weights, preprocessing, channels)
        count = len(classes) or self.architecture.num_classes
        architecture = adapt(self.architecture, input_shape, count)
        if classes and classes != self.classes:
            architecture = _with_linear_classifier(architecture)
            weights = weights | _zero_classifier(architecture)
        resize = round(preprocessing.resize_px * size / preprocessing.size_px)
        return self._replace(
            architecture=architecture,
            weights=weights,
            preprocessing=msgspec.structs.replace(preprocessing, size_px=size, resize_px=resize),
            classes=classes or self.classes,
            top1=self.top1 if self.architecture == architecture else None,
        )

    def normalised_as(self, preprocessing: Preprocessing) -> PretrainedNetwork:
        """Return the network for images that are normalised as those of another network are.

        An input x of the other is ``(x * std' + mean' - mean) / std`` for this one, which is folded
        into the stem. This is exact except at the outermost pixels, whose padding is the other
        mean.
        """
        if len(preprocessing.mean) != len(self.preprocessing.mean):
            raise UsageError(
                f"{self.name} takes {len(self.preprocessing.mean)} channels, expected "
                f"{len(preprocessing.mean)}"
            )
        (mean, std), (other_mean, other_std) = map(_moments, (self.preprocessing, preprocessing))
        kernels = _stem_kernels(self.weights)
        shift = (kernels.sum(dim=(2, 3)) * ((other_mean - mean) / std)).sum(dim=1)
        changed = _stem(self.weights, kernels * (other_std / std)[:, None, None], shift)
        normalised = msgspec.structs.replace(
            self.preprocessing, mean=preprocessing.mean, std=preprocessing.std
        )
        return self._replace(weights=self.weights | changed, preprocessing=normalised)


def loaded(architecture: Architecture, weights: dict[str, Tensor]) -> Network:
    """Return the network of ``architecture`` with copies of ``weights``, in evaluation mode."""
    with torch.device("meta"):
        network = build(architecture)
    counters = {
        key: torch.zeros((), dtype=torch.int64)
        for key in network.state_dict()
        if key.endswith(COUNTER)
    }
    copies = {key: tensor.clone() for key, tensor in weights.items()}
    network.load_state_dict(counters | copies, assign=True)
    return network.eval()


def grey_stem(
    weights: dict[str, Tensor], preprocessing: Preprocessing, channels: int = 1
) -> tuple[dict[str, Tensor], Preprocessing]:
    """Return the weights for grey images, which a network of colour images takes as R = G = B.

    A grey value g enters channel c as ``(g - mean_c) / std_c``, so the stem's kernels are summed
    with the weights ``std / std_c``, and the means' difference moves into the batch norm. This is
    exact where the stem's window lies inside the image; at the borders the padding is the mean grey
    instead of the mean colour, which is the same if the means are equal.
    """
    colours = len(preprocessing.mean)
    if channels != 1 or colours == 1:
        raise UsageError(f"the network takes {colours} channels, it cannot take {channels}")
    kernels = _stem_kernels(weights)
    mean, std = _moments(preprocessing)
    grey_mean, grey_std = mean.mean().item(), std.mean().item()
    summed = (kernels * (grey_std / std)[:, None, None]).sum(dim=1, keepdim=True)
    shift = (kernels.sum(dim=(2, 3)) * ((grey_mean - mean) / std)).sum(dim=1)
    changed = _stem(weights, summed, shift)
    grey = msgspec.structs.replace(preprocessing, mean=(grey_mean,), std=(grey_std,))
    return weights | changed, grey


def _moments(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel ``[C]``, float64."""
    mean, std = preprocessing.mean, preprocessing.std
    return torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)


def _stem_kernels(weights: dict[str, Tensor]) -> Tensor:
    return weights[f"{_stem_layer(weights)}.conv.weight"].double()


def _stem_layer(weights: dict[str, Tensor]) -> str:
    stem = next((layer for layer in STEMS if f"{layer}.conv.weight" in weights), None)
    if stem is None:
        raise UsageError(
            "the network does not begin with a convolution; its channels and its normalisation "
            "cannot be changed"
        )
    return stem


def _stem(weights: dict[str, Tensor], kernels: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """Return the tensors of a stem with other ``kernels``, whose outputs are ``shift [C]`` lower
    than its batch norm expects."""
    stem = _stem_layer(weights)
    running_mean = weights[f"{stem}.norm.running_mean"]
    return {
        f"{stem}.conv.weight": kernels.to(running_mean.dtype),
        f"{stem}.norm.running_mean": (running_mean - shift).to(running_mean.dtype),
    }


def _with_linear_classifier(architecture: Architecture) -> Architecture:
    """Return the network with a linear classifier where its logits are pooled activations.

    These have no gradient at zero, where a new classifier starts.
    """
    last = architecture.blocks[-1]
    if last.op == "conv_logits":
        last = msgspec.structs.replace(last, op="logits", activation="relu6")
    return msgspec.structs.replace(architecture, blocks=(*architecture.blocks[:-1], last))


def _zero_classifier(architecture: Architecture) -> dict[str, Tensor]:
    last = architecture.blocks[-1]
    layer = "logits.linear" if last.op == "norm_logits" else "linear"
    prefix = f"blocks.{len(architecture.blocks) - 1}.{layer}"
    return {
        f"{prefix}.weight": torch.zeros(last.out_channels, last.in_channels),
        f"{prefix}.bias": torch.zeros(last.out_channels),
    }
