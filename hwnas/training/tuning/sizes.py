"""Image sizes of a training: small images first, whole ones last.

Small images cost less and teach the same features (progressive resizing: Tan and Le,
"EfficientNetV2", ICML 2021, arXiv:2104.00298). Crops show objects larger than whole images do, on
which networks are evaluated (Touvron et al., "Fixing the train-test resolution discrepancy",
NeurIPS 2019, arXiv:1906.06423).
"""

from __future__ import annotations

from torch import Tensor

from hwnas.architecture.size import size_of
from hwnas.nn.resized import resized
from hwnas.training.plan import TrainingPlan

SMALL = 0.7
"""Size of small images as a share of the network's."""
MULTIPLE_PX = 16
"""Divisor of sizes, so that every stage halves an even size."""


def small_size(size: int) -> int:
    """Return the size of small images for a network of ``size`` pixels."""
    return min(size, MULTIPLE_PX * max(1, round(SMALL * size / MULTIPLE_PX)))


def shown(images: Tensor, plan: TrainingPlan, step: int, steps: int) -> Tensor:
    """Return the images ``[N, C, H, W]`` of a step of ``steps``, resized as the plan states."""
    if step >= plan.small_share * steps:
        return images
    height, width = images.shape[-2:]
    return resized(images, size_of(small_size(height), small_size(width)))
