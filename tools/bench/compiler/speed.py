"""How long does the compiler take for a block? Writes ``tools/bench/compiler/results/speed.md``.

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.speed

For each of about 60 blocks, times the trace and the writing of the file, in rounds over all blocks,
and prints the median over blocks of each block's median.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from statistics import median
from time import perf_counter

import click
import numpy as np
import torch
from torch import nn

from hwnas.export.graph.trace import Graph, trace
from hwnas.export.onnx.emitter import write_onnx
from hwnas.export.tflite.emitter import write_tflite
from tools.lib.options import out_option
from tools.lib.results import command, results_folder, table, write_results

Case = tuple[str, tuple[int, int, int], nn.Module]
WRITERS: dict[str, Callable[[Graph, Path], None]] = {"onnx": write_onnx, "tflite": write_tflite}
RESULTS = results_folder(__file__) / "speed.md"


@click.command()
@click.option("--rounds", default=7, show_default=True, type=click.IntRange(1))
@out_option(RESULTS)
def main(rounds: int, out: Path) -> None:
    """Time the trace and the writing of about 60 blocks."""
    torch.set_num_threads(1)
    cases = blocks()
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            time_case(case, Path(folder))
        rounds_ms = [[time_case(case, Path(folder)) for case in cases] for _ in range(rounds)]
    steps = {
        "trace": ["trace"],
        "trace + ONNX file": ["trace", "onnx"],
        "trace + TFLite file": ["trace", "tflite"],
    }
    text = write_results(
        out,
        "Compiling one block, ms",
        "OMP_NUM_THREADS=1 " + command(__file__, f"--rounds {rounds}"),
        f"{len(cases)} blocks (MBConv k3/5/7 e3/6 stride 1/2 at four places, half of them with "
        f"squeeze-excite and h-swish; dense 3x3), {rounds} rounds.",
        table(
            ("step", "median", "10 %", "90 %", "max"),
            [(name, *quantiles(rounds_ms, parts)) for name, parts in steps.items()],
        ),
        conditions=f"torch {torch.__version__}, one thread",
    )
    click.echo(text)


def time_case(case: Case, folder: Path) -> dict[str, float]:
    """Return the milliseconds of the trace and of writing each format."""
    _, shape, module = case
    start = perf_counter()
    graph = trace(module, shape)
    times_ms = {"trace": (perf_counter() - start) * 1e3}
    for format, write in WRITERS.items():
        start = perf_counter()
        write(graph, folder / f"block.{format}")
        times_ms[format] = (perf_counter() - start) * 1e3
    return times_ms


def quantiles(rounds: list[list[dict[str, float]]], parts: list[str]) -> list[str]:
    """Return median, 10 % and 90 % quantile and maximum over blocks of the sum of ``parts``."""
    blocks_ms = [
        median(sum(times_ms[part] for part in parts) for times_ms in block_rounds)
        for block_rounds in zip(*rounds, strict=True)
    ]
    low, high = np.quantile(blocks_ms, (0.1, 0.9))
    return [f"{value_ms:.1f}" for value_ms in (median(blocks_ms), low, high, max(blocks_ms))]


def blocks() -> list[Case]:
    """Return blocks made of torch modules, from 16 channels at 56 px to 96 channels at 7 px."""
    torch.manual_seed(0)
    cases: list[Case] = []
    places = ((16, 56), (32, 28), (64, 14), (96, 7))
    for (channels, size), k, expand, stride in product(places, (3, 5, 7), (3, 6), (1, 2)):
        gated = (k + expand + stride) % 2 == 0
        name = f"mbconv k{k} e{expand} s{stride} {channels} @{size}"
        cases.append((name, (channels, size, size), mbconv(channels, k, expand, stride, gated)))
    for (channels, size), stride in product(places, (1, 2, 3)):
        dense = nn.Sequential(*conv(channels, channels, 3, stride), nn.ReLU6())
        cases.append((f"dense s{stride} {channels} @{size}", (channels, size, size), dense))
    return cases


def conv(c_in: int, c_out: int, k: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    layer = nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False)
    return layer, nn.BatchNorm2d(c_out)


def mbconv(channels: int, k: int, expand: int, stride: int, gated: bool) -> nn.Module:
    mid = channels * expand
    act = nn.Hardswish if gated else nn.ReLU6
    layers = [*conv(channels, mid, 1), act(), *conv(mid, mid, k, stride, mid), act()]
    if gated:
        layers.append(Gate(mid))
    body = nn.Sequential(*layers, *conv(mid, channels, 1))
    return Residual(body) if stride == 1 else body


class Gate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 4, 1),
            nn.ReLU(),
            nn.Conv2d(channels // 4, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.layers(x)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


if __name__ == "__main__":
    main()
