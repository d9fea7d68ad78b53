"""Networks with the weights that a training wrote."""

from __future__ import annotations

from pathlib import Path

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile
from hwnas.nn.build import Network, build
from hwnas.training.checkpoint import load_checkpoint


def trained_network(architecture: Architecture, folder: Path) -> Network:
    """Return the network with the weights that a training left in ``folder``."""
    network = build(architecture)
    weights, notes = load_checkpoint(folder / "network.safetensors")
    if notes.get("architecture") != architecture.digest:
        raise InvalidFile(str(folder / "network.safetensors"), "holds another architecture")
    network.load_state_dict(weights)
    return network.eval()


def begin_with(network: Network, path: Path) -> None:
    """Load the weights of a file. Raises `InvalidFile` for those of another network."""
    weights, _ = load_checkpoint(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise InvalidFile(str(path), f"its weights are not those of the network: {why}") from None
