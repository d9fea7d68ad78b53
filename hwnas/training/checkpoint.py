"""Checkpoints: tensors and a few text notes in a safetensors file, written atomically."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from hwnas.errors import InvalidFile, last_line
from hwnas.files import write_atomic


def save_checkpoint(path: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write ``tensors``, from any device, and ``notes``; a kill leaves the old file or the new."""
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, save(copies, metadata=notes))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and notes that `save_checkpoint` wrote, else raise `InvalidFile`."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InvalidFile(str(path), f"not a readable checkpoint ({error})") from None


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a ``.safetensors`` file. Raises `InvalidFile` if they do not fit."""
    weights, _ = load_checkpoint(path)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        mismatch = last_line(str(error))
        raise InvalidFile(str(path), f"does not fit this network: {mismatch}") from None
