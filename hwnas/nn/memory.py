"""Memory of a training step, by the tensors that autograd saves.

They are counted on shapes alone, without computing anything. A training takes more than that:
`TOTAL_OVER_SAVED` is the measured memory of `mobilenet_v2` at 224 px in batches of 64 (8.9 GB) over
its saved tensors (5.0 GB).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from hwnas.architecture.architecture import Architecture
from hwnas.nn.build import build

TOTAL_OVER_SAVED = 1.8


def image_bytes(architecture: Architecture) -> float:
    """Return the bytes of memory that one image takes in a training step."""
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
