"""Networks with trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile
from hwnas.networks.folder import CHECKPOINT
from hwnas.nn.build import Network, build
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices, packed, unpacked
from hwnas.pretrained.weights import check_keys, without_counters
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.description import NetworkDescription, read_description

SLICES = "slices.safetensors"
"""File beside the weights of a network that was trained to be cut (`hwnas.nn.elastic.slices`)."""


class TrainedFile(NamedTuple):
    """The content of a file of weights that hwnas wrote."""

    description: NetworkDescription
    weights: dict[str, Tensor]

    def network(self) -> Network:
        """Return the network in evaluation mode."""
        network = build(self.description.architecture)
        network.load_state_dict(self.weights)
        return network.eval()


def trained_network(architecture: Architecture, folder: Path) -> Network:
    """Return the network with the weights that a training wrote to ``folder``."""
    path = folder / CHECKPOINT
    weights, _ = load_checkpoint(path)
    if described(path).architecture.digest != architecture.digest:
        raise InvalidFile(str(path), "contains weights of another architecture")
    network = build(architecture)
    network.load_state_dict(weights)
    return network.eval()


def read_trained(path: Path) -> TrainedFile:
    """Read a file of weights with its network. Raises `InvalidFile` for files of other programs,
    and for weights that do not fit the network."""
    description, (weights, _) = described(path), load_checkpoint(path)
    with torch.device("meta"):
        expected = build(description.architecture).state_dict()
    check_keys(path, without_counters(weights), expected)
    return TrainedFile(description, weights)


def write_slices(folder: Path, slices: TrainedSlices) -> None:
    """Write which blocks were trained to be cut; no file is written if there are none."""
    if slices:
        save_checkpoint(folder / SLICES, packed(slices), {})


def read_slices(folder: Path) -> TrainedSlices:
    """Return which blocks of the network in ``folder`` were trained to be cut."""
    path = folder / SLICES
    return unpacked(load_checkpoint(path)[0]) if path.exists() else NO_SLICES


def described(path: Path) -> NetworkDescription:
    """Return the network of a file of weights. Raises `InvalidFile` for files of other programs."""
    description = read_description(path)
    if description is None:
        raise InvalidFile(
            str(path),
            "does not say which network its weights belong to, as files of `hwnas train` do",
        )
    return description
