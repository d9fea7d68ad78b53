"""Batch size by memory: the planned one, halved until a training step fits.

A fine-tuning computes its batches in parts before they are halved. The memory of an image is
counted on a CPU (`hwnas.nn.memory`) and measured on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import torch

from hwnas.architecture.architecture import Architecture
from hwnas.files import read_json, write_json
from hwnas.nn.build import build
from hwnas.nn.memory import image_bytes
from hwnas.processes import cores
from hwnas.training.compute import Compute, free_bytes, full_precision, peak_bytes
from hwnas.training.distributed import ranks
from hwnas.training.plan import TrainingPlan

MEMORY_SHARE = 0.6
"""Share of the free memory that a training may take: the data and other programs need the rest."""
MEASURED_SIZES = 16, 32
"""Two batch sizes; the memory per image follows from the difference of their memory."""
MIN_IMAGES = 4
"""Least batch size: batch norm needs several images."""
STEP_BYTES = 1.2e9
"""Most memory for the images of a part of a batch in fine-tuning on a CPU; larger parts are not
faster."""


def step_image_bytes(architecture: Architecture, compute: Compute) -> float:
    """Return the memory that one image of a training step takes on a device; measured on CUDA,
    where it depends on kernels and precision."""
    if compute.kind != "cuda":
        return image_bytes(architecture)
    small, large = (_step_peak_bytes(architecture, compute, size) for size in MEASURED_SIZES)
    return (large - small) / (MEASURED_SIZES[1] - MEASURED_SIZES[0])


def _step_peak_bytes(architecture: Architecture, compute: Compute, size: int) -> int:
    """Return the largest memory within a training step of ``size`` images."""
    compute.start()
    torch.cuda.reset_peak_memory_stats(compute.device)
    network = compute.place(build(architecture).train())
    images = torch.zeros(size, *architecture.input_shape)
    with compute.autocast():
        logits = network(compute.put(images.contiguous(memory_format=torch.channels_last)))
    full_precision(logits).square().mean().backward()
    return peak_bytes(compute.device)


def in_parts(plan: TrainingPlan, image_bytes: float, device: str) -> TrainingPlan:
    """Return the plan of a fine-tuning with its batches in parts, of at most `STEP_BYTES` on a CPU.

    With frozen norms the gradients of the parts add up to the batch's, so that only rounding and
    the masks of the dropout differ. Other plans are returned unchanged.
    """
    if device != "cpu" or not plan.frozen_norms:
        return plan
    part = max(MIN_IMAGES, int(STEP_BYTES / image_bytes))
    return msgspec.structs.replace(plan, accumulate=-(-plan.batch_size // part))


def fitting(planned: int, image_bytes: float, free_bytes: float) -> int:
    """Return ``planned``, halved until a step takes at most `MEMORY_SHARE` of ``free_bytes``."""
    size = planned
    while size // 2 >= MIN_IMAGES and size * image_bytes > MEMORY_SHARE * free_bytes:
        size //= 2
    return size


def processes_for(networks: int, compute: Compute) -> int:
    """Return the number of ``networks`` that are trained at once: one process per core of a CPU."""
    return min(networks, cores()) if compute.kind == "cpu" and ranks() == 1 else 1


def resolve_batch_size(
    file: Path | None,
    planned: int,
    image_bytes: float,
    say: Callable[[str], None],
    hint: str = "",
    device: str = "cpu",
) -> int:
    """Return the batch size stored in ``file``, or else one that fits the memory.

    A new batch size is stored in ``file``, so that a resumed run has the same. It is a multiple of
    the number of ranks.
    """
    if file is not None and file.exists():
        return read_json(file, int)
    free = free_bytes(device)
    if device.startswith("cuda"):
        free *= ranks()  # each rank has a GPU of its own
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
