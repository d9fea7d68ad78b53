"""What a file takes: pixels or normalised values, in which order, and what its outputs are called.

It is written into the file as JSON under `NAME` (ONNX: ``metadata_props``, TFLite: ``metadata``
with its buffer), and the normalisation can be compiled into the network. A zero of padding is the
mean colour to a normalised image and black to pixels, so folding into a padded convolution would
be wrong at the borders: there the normalisation is a layer of its own (scale and shift of each
channel); where the first convolution has no padding it is folded into it, exactly.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.export.graph.nodes import INPUT, Conv, Graph

NAME = "hwnas.input"


class Preprocessing(msgspec.Struct, frozen=True):
    """How images become the input: ``(pixel / 255 - mean) / std`` for each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    inside: bool = False
    """The file does it itself and takes pixels from 0 to 255."""


class InputNote(msgspec.Struct, frozen=True):
    """What stands in the file."""

    name: str
    layout: str
    shape: tuple[int, ...]
    takes: str
    """``pixels``: 0 to 255; ``normalised``: ``(pixel / 255 - mean) / std``."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]


def input_note(
    said: Preprocessing, format: Format, input_shape: tuple[int, int, int]
) -> dict[str, bytes]:
    """Return what to write into a file, by its name."""
    runtime = COMPILED[format]
    note = InputNote(
        INPUT,
        runtime.layout,
        runtime.batch_shape(input_shape),
        "pixels" if said.inside else "normalised",
        said.mean,
        said.std,
        said.labels,
    )
    return {NAME: msgspec.json.encode(note)}


def taking_pixels(module: nn.Module, said: Preprocessing) -> nn.Module:
    """Return ``module`` with the normalisation before it, for pixels from 0 to 255."""
    norm = nn.BatchNorm2d(len(said.mean), eps=0.0, affine=False)
    norm.running_mean = 255 * torch.tensor(said.mean)
    norm.running_var = (255 * torch.tensor(said.std)) ** 2
    return nn.Sequential(norm, module).eval()


def folded(graph: Graph) -> Graph:
    """Fold a first scale and shift of the channels into the convolution after it, where exact."""
    first = graph.nodes[0]
    users = [node for node in graph.nodes if first.name in node.inputs]
    if not (
        isinstance(first, Conv)
        and first.weight.shape == (len(first.bias), 1, 1, 1)
        and first.fused is None
        and len(users) == 1
        and isinstance(then := users[0], Conv)
        and not np.any(then.padding)
        and then.weight.shape[1] == len(first.bias)
    ):
        return graph
    scale = first.weight.reshape(-1).astype(np.float64)
    weight: Any = then.weight.astype(np.float64)
    bias = then.bias + np.einsum("oihw,i->o", weight, first.bias.astype(np.float64))
    merged = msgspec.structs.replace(
        then,
        inputs=first.inputs,
        weight=(weight * scale[:, None, None]).astype(np.float32),
        bias=bias.astype(np.float32),
    )
    rest = (merged if node is then else node for node in graph.nodes[1:])
    return msgspec.structs.replace(graph, nodes=tuple(rest))
