"""How fast is a training step of our depthwise convolution beside PyTorch's own?

    OMP_NUM_THREADS=1 python -m tools.bench.search.depthwise

Times the forward and backward pass of one layer on 64 images, channels last, with one thread; both
implementations take turns. Writes ``tools/bench/search/results/depthwise.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.nn.depthwise import depthwise_conv2d
from hwnas.training.compute import keep_freed_memory
from tools.lib.results import command, results_folder, table, write_results

LAYERS = (
    (384, 4, 5),
    (240, 4, 7),
    (120, 4, 5),
    (120, 2, 3),
    (72, 6, 7),
    (144, 7, 7),
    (144, 7, 5),
    (144, 7, 3),
    (48, 14, 5),
)
"""Channels, height and width, kernel size; the last two are oneDNN's in both columns."""
WARMUP_ROUNDS, ROUNDS = 2, 13
RESULTS = results_folder(__file__) / "depthwise.md"


@click.command()
def main() -> None:
    """Time training steps of a depthwise convolution, ours and PyTorch's in turns."""
    torch.set_num_threads(1)
    keep_freed_memory()
    rows: list[tuple[str, ...]] = []
    for channels, size, kernel_size in LAYERS:
        images = torch.randn(64, channels, size, size).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, 1, kernel_size, kernel_size)
        rounds = [
            (_step_ms(_pytorch, images, weight), _step_ms(depthwise_conv2d, images, weight))
            for _ in range(WARMUP_ROUNDS + ROUNDS)
        ][WARMUP_ROUNDS:]
        pytorch_ms, own_ms = (median(column) for column in zip(*rounds, strict=True))
        ratio = median(pytorch / own for pytorch, own in rounds)
        layer = str(channels), f"{size}x{size}", str(kernel_size)
        rows.append((*layer, f"{pytorch_ms:.2f}", f"{own_ms:.2f}", f"{ratio:.1f}"))
    text = write_results(
        RESULTS,
        "Training a depthwise layer",
        "OMP_NUM_THREADS=1 " + command(__file__),
        f"Ratio: PyTorch's time over ours, median of {ROUNDS} rounds in turns.",
        table(("channels", "map", "kernel", "PyTorch, ms", "ours, ms", "ratio"), rows),
        conditions=f"torch {torch.__version__}",
    )
    click.echo(text)


def _pytorch(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, None, 1, weight.shape[-1] // 2, 1, len(weight))


def _step_ms(layer: Callable[[Tensor, Tensor], Tensor], images: Tensor, weight: Tensor) -> float:
    images, weight = images.detach().requires_grad_(), weight.detach().requires_grad_()
    start = perf_counter()
    layer(images, weight).sum().backward()
    return (perf_counter() - start) * 1e3


if __name__ == "__main__":
    main()
