"""The smallest useful spaces, images and cost tables."""

from __future__ import annotations

import torch

from hwnas.architecture.architecture import Block
from hwnas.latency_models.cost import CostTable
from hwnas.spaces.mobile.space import FUSED, Candidate, MobileSpace, Stage
from hwnas.training.images.loader import Batch, Data

MB33, MB36, MB73, MB76 = (Candidate("mbconv", k, e) for k in (3, 7) for e in (3, 6))


def tiny_space(
    *candidates: Candidate, size: int = 12, widths: tuple[int, ...] = (8, 8)
) -> MobileSpace:
    """Return a space with a decision per width; a first block of width 8 may be skipped."""
    return MobileSpace(
        name="tiny",
        input_shape=(1, size, size),
        num_classes=3,
        stem=(Block("conv", 1, 8, 3, 2, 1, size),),
        stages=tuple(Stage(width, 1, 1) for width in widths),
        candidates=candidates or (MB33, MB76, *FUSED),
        head_width=16,
    )


def tiny_data(count: int = 32, size: int = 12, seed: int = 0) -> Data:
    """Return grey noise in which the label decides which columns are brighter."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    images = torch.randint(0, 120, (count, 1, size, size), generator=generator, dtype=torch.uint8)
    for label in range(3):
        images[labels == label, :, :, label::3] += 100
    channel = (1, 1, 1)
    return Data(images, labels, torch.full(channel, 0.35), torch.full(channel, 0.25))


def tiny_batch(count: int = 8, size: int = 12) -> Batch:
    return next(tiny_data(count, size).in_order())


def tiny_costs(space: MobileSpace, fixed_ms: float = 0.5) -> CostTable:
    """Return distinct costs of about a millisecond; a skip costs nothing."""
    rows = [
        [
            0.0 if block.op == "identity" else 1 + 0.25 * candidate + 0.05 * place
            for candidate, block in enumerate(row)
        ]
        for place, row in enumerate(space.blocks)
    ]
    return CostTable(tuple(map(tuple, rows)), fixed_ms)
