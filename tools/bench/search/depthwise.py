"""A training step of depthwise convolutions, ours beside PyTorch's own.

    OMP_NUM_THREADS=1 python -m tools.bench.search.depthwise

Forward and backward pass of one layer, 64 images, channels last, one thread; both in turns. Writes
``tools/bench/search/results/depthwise.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.devices.fingerprint import hardware
from hwnas.nn.depthwise import depthwise_conv2d
from hwnas.training.loop import keep_freed_memory

LAYERS = ((384, 4, 5), (240, 4, 7), (120, 4, 5), (120, 2, 3), (72, 6, 7), (144, 7, 7),
          (144, 7, 5), (144, 7, 3), (48, 14, 5))  # fmt: skip
"""Channels, height and width, kernel size; the last two are oneDNN's in both columns."""
ROUNDS = 15
OUT = Path(__file__).parent / "results" / "depthwise.md"


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    lines = [
        "| channels | map | kernel | PyTorch, ms | ours, ms | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for channels, size, kernel_size in LAYERS:
        images = torch.randn(64, channels, size, size).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, 1, kernel_size, kernel_size)
        rounds = [
            tuple(_step_ms(one, images, weight) for one in (_pytorch, depthwise_conv2d))
            for _ in range(ROUNDS)
        ]
        theirs, ours = (median(column) for column in zip(*rounds[2:], strict=True))
        ratio = median(a / b for a, b in rounds[2:])
        told = f"{theirs:.2f} | {ours:.2f} | {ratio:.1f}"
        lines.append(f"| {channels} | {size}x{size} | {kernel_size} | {told} |")
    table = "\n".join(lines)
    print(table)
    head = (
        "# Training a depthwise layer\n\n`OMP_NUM_THREADS=1 PYTHONPATH=. python "
        f"tools/bench/search/depthwise.py`, {date.today()}, {hardware()}, torch "
        f"{torch.__version__}.\n\n"
        f"Ratio: PyTorch's time over ours, median of {ROUNDS - 2} rounds in turns."
    )
    OUT.write_text(f"{head}\n\n{table}\n")


def _pytorch(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, None, 1, weight.shape[-1] // 2, 1, len(weight))


def _step_ms(layer: Callable[[Tensor, Tensor], Tensor], images: Tensor, weight: Tensor) -> float:
    images, weight = images.detach().requires_grad_(), weight.detach().requires_grad_()
    start = perf_counter()
    layer(images, weight).sum().backward()
    return (perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
