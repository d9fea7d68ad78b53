"""Checkpoints: tensors in safetensors, a few words beside them, written atomically."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from hwnas.errors import InvalidFile
from hwnas.files import write_atomic


def save_checkpoint(path: Path, tensors: dict[str, Tensor], notes: dict[str, str]) -> None:
    """Write ``tensors`` and ``notes``; a kill leaves the old file or the new one."""
    whole = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
    write_atomic(path, save(whole, metadata=notes))


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what `save_checkpoint` wrote. Raises `InvalidFile` for anything else."""
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise InvalidFile(str(path), f"not a readable checkpoint ({error})") from None
