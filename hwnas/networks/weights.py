"""Networks with trained weights."""

from __future__ import annotations

from pathlib import Path

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
