"""Batch size by memory: what is wanted, halved until a training step fits.

What autograd keeps of an image is counted on shapes alone, without computing anything. A training
takes more than that: `OVER_KEPT` is the measured memory of `mobilenet_v2` at 224 px in batches of
64 (8.9 GB) over what is kept of it (5.0 GB).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hwnas.architecture.architecture import Architecture
from hwnas.files import write_json
from hwnas.nn.build import build
from hwnas.training.distributed import ranks

OVER_KEPT = 1.8
SHARE = 0.6
"""Of the memory that is free, which a training may take: the data and other programs need some."""
LEAST = 4
"""Images below which batch norm has nothing to average over."""


def image_bytes(architecture: Architecture) -> float:
    """Return what one image of a training step takes."""
    with torch.device("meta"):
        network = build(architecture).train()
        own = {one.untyped_storage()._cdata for one in network.state_dict().values()}
        kept: dict[int, tuple[int, Tensor]] = {}  # the tensors, so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage.nbytes(), tensor
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            network(torch.zeros(2, *architecture.input_shape))
    return OVER_KEPT * sum(size for size, _ in kept.values()) / 2


def fitting(wanted: int, image_bytes: float, free_bytes: float) -> int:
    """Return ``wanted``, halved until a step takes at most `SHARE` of ``free_bytes``."""
    size = wanted
    while size // 2 >= LEAST and size * image_bytes > SHARE * free_bytes:
        size //= 2
    return size


def settled(
    file: Path | None, wanted: int, image_bytes: float, say: Callable[[str], None], hint: str = ""
) -> int:
    """Return the batch size that ``file`` says a run was begun with, else one that fits the memory.

    The latter is written to ``file``: a resumed run has the same. Batches have equal parts for all
    ranks.
    """
    if file is not None and file.exists():
        return msgspec.json.decode(file.read_bytes(), type=int)
    free = free_bytes()
    size = fitting(wanted, image_bytes, free)
    size = max(1, size // ranks()) * ranks()
    if size < wanted:
        say(
            f"batches of {size} images instead of {wanted}: an image takes about "
            f"{image_bytes / 1e6:.0f} MB in training, and {free / 1e9:.1f} GB are free{hint}"
        )
    if file is not None:
        write_json(file, size)
    return size


def free_bytes() -> float:
    """Return the memory that new programs can have without swapping."""
    return float(psutil.virtual_memory().available)
