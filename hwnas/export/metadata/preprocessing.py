"""The normalisation of pixels, compiled into the network.

Zero padding is the mean colour of a normalised image but black in pixels, so folding the
normalisation into a padded convolution would be wrong at the borders: there it is a layer of its
own, a scale and shift of each channel. Where the first convolution has no padding, it is folded
into it exactly.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from hwnas.export.graph.nodes import Conv, Graph
from hwnas.export.metadata.input import Preprocessing


def with_normalisation(module: nn.Module, preprocessing: Preprocessing) -> nn.Module:
    """Return ``module`` after a normalisation of pixels from 0 to 255."""
    norm = nn.BatchNorm2d(len(preprocessing.mean), eps=0.0, affine=False)
    norm.running_mean = 255 * torch.tensor(preprocessing.mean)
    norm.running_var = (255 * torch.tensor(preprocessing.std)) ** 2
    return nn.Sequential(norm, module).eval()


def fold_input_affine(graph: Graph) -> Graph:
    """Fold a scale and shift of the input's channels into the convolution after it, where exact."""
    affine = graph.nodes[0]
    users = [node for node in graph.nodes if affine.name in node.inputs]
    if not (
        isinstance(affine, Conv)
        and affine.weight.shape == (len(affine.bias), 1, 1, 1)
        and affine.fused is None
        and len(users) == 1
        and isinstance(conv := users[0], Conv)
        and not np.any(conv.padding)
        and conv.weight.shape[1] == len(affine.bias)
    ):
        return graph
    scale = affine.weight.reshape(-1).astype(np.float64)
    weight: Any = conv.weight.astype(np.float64)
    bias = conv.bias + np.einsum("oihw,i->o", weight, affine.bias.astype(np.float64))
    folded = msgspec.structs.replace(
        conv,
        inputs=affine.inputs,
        weight=(weight * scale[:, None, None]).astype(np.float32),
        bias=bias.astype(np.float32),
    )
    nodes = (folded if node is conv else node for node in graph.nodes[1:])
    return msgspec.structs.replace(graph, nodes=tuple(nodes))
