"""Networks with trained weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile
from hwnas.nn.build import Network, build
from hwnas.training.checkpoint import load_checkpoint

CHECKPOINT = "network.safetensors"
"""Name of the weights in the folder of a training."""


def trained_network(architecture: Architecture, folder: Path) -> Network:
    """Return the network with the weights that a training wrote to ``folder``."""
    network = build(architecture)
    weights, metadata = load_checkpoint(folder / CHECKPOINT)
    if metadata.get("architecture") != architecture.digest:
        raise InvalidFile(str(folder / CHECKPOINT), "contains weights of another architecture")
    network.load_state_dict(weights)
    return network.eval()


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a ``.safetensors`` file. Raises `InvalidFile` if they do not fit."""
    weights, _ = load_checkpoint(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        mismatch = str(error).strip().splitlines()[-1].strip()
        raise InvalidFile(str(path), f"does not fit this network: {mismatch}") from None
