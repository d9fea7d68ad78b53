"""Batch size by memory: the planned one, halved until a training step fits.

The bytes that autograd saves for an image are counted on shapes alone, without computing anything.
A training takes more than that: `TOTAL_OVER_SAVED` is the measured memory of `mobilenet_v2` at
224 px in batches of 64 (8.9 GB) over its saved tensors (5.0 GB).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hwnas.architecture.architecture import Architecture
from hwnas.files import read_json, write_json
from hwnas.nn.build import build
from hwnas.training.compute import free_bytes
from hwnas.training.distributed import ranks

TOTAL_OVER_SAVED = 1.8
MEMORY_SHARE = 0.6
"""Share of the free memory that a training may take: the data and other programs need the rest."""
MIN_IMAGES = 4
"""Images below which batch norm has nothing to average over."""


def image_bytes(architecture: Architecture) -> float:
    """Return the memory that one image of a training step takes."""
    with torch.device("meta"):
        network = build(architecture).train()
        own = {tensor.untyped_storage()._cdata for tensor in network.state_dict().values()}
        saved: dict[int, tuple[int, Tensor]] = {}  # the tensors, so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                saved[storage._cdata] = storage.nbytes(), tensor
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.zeros(2, *architecture.input_shape))
    return TOTAL_OVER_SAVED * sum(size for size, _ in saved.values()) / 2


def fitting(planned: int, image_bytes: float, free_bytes: float) -> int:
    """Return ``planned``, halved until a step takes at most `MEMORY_SHARE` of ``free_bytes``."""
    size = planned
    while size // 2 >= MIN_IMAGES and size * image_bytes > MEMORY_SHARE * free_bytes:
        size //= 2
    return size


def resolve_batch_size(
    file: Path | None, planned: int, image_bytes: float, say: Callable[[str], None], hint: str = ""
) -> int:
    """Return the batch size stored in ``file``, or else one that fits the memory.

    That is stored in ``file``, so that a resumed run has the same. Batches have equal parts for all
    ranks.
    """
    if file is not None and file.exists():
        return read_json(file, int)
    free = free_bytes("cpu")
    size = fitting(planned, image_bytes, free)
    size = max(1, size // ranks()) * ranks()
    if size < planned:
        say(
            f"batches of {size} images instead of {planned}: an image takes about "
            f"{image_bytes / 1e6:.0f} MB in training, and {free / 1e9:.1f} GB are free{hint}"
        )
    if file is not None:
        write_json(file, size)
    return size
