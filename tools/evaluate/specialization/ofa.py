"""The space of Once-for-all (MobileNetV3, width 1.2) on published tables and predictor.

Cai, Gan, Wang, Zhang and Han, ICLR 2020, arXiv:1908.09791. A network is 26 choices: kernel and
expansion of 20 blocks (five stages of four), the depth of each stage, and the resolution.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import InvalidFile
from hwnas.search.blackbox.problem import (
    Choices,
    Problem,
    Scores,
)

KERNELS, RATIOS, DEPTHS = (3, 5, 7), (3, 4, 6), (2, 3, 4)
WIDTHS = (24, 32, 48, 96, 136, 192)
STRIDES = (2, 2, 2, 1, 2)
SQUEEZE = (0, 1, 0, 1, 1)
HARD_SWISH = (0, 0, 1, 1, 1)
SLOTS = 4
BLOCKS = len(STRIDES) * SLOTS
RESOLUTION_STEP_PX = 16
"""Step between the resolutions of the predictor, from `MIN_RESOLUTION_PX` on."""
MIN_RESOLUTION_PX = 112


class Predictor:
    """The published accuracy predictor: dense layers 128-400-400-400-1 with ReLU."""

    def __init__(self, path: Path) -> None:
        layers = np.load(path)
        self.layers = [
            (layers[f"{n}_weight"].T.astype(np.float32), layers[f"{n}_bias"].astype(np.float32))
            for n in (0, 2, 4, 6)
        ]

    def percent(self, choices: Choices, resolutions: tuple[int, ...]) -> Scores:
        """Return the predicted accuracy ``[N]`` of networks ``[N, 26]``."""
        y = one_hot(choices, resolutions)
        for weight, bias in self.layers[:-1]:
            y = np.maximum(y @ weight + bias, 0)
        weight, bias = self.layers[-1]
        return ((y @ weight)[:, 0] + bias[0]).astype(np.float64) * 100


def one_hot(choices: Choices, resolutions: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the predictor's input ``[N, 128]``: kernels, expansions, resolution."""
    alive = _alive(choices)
    kernel, ratio = np.divmod(choices[:, :BLOCKS], len(RATIOS))
    x = np.zeros((len(choices), 2, BLOCKS, 3), np.float32)
    rows, places = np.nonzero(alive)
    x[rows, 0, places, kernel[alive]] = 1
    x[rows, 1, places, ratio[alive]] = 1
    sizes = np.zeros((len(choices), 8), np.float32)
    at = (np.array(resolutions) - MIN_RESOLUTION_PX) // RESOLUTION_STEP_PX
    sizes[np.arange(len(choices)), at[choices[:, -1]]] = 1
    return np.concatenate([x.reshape(len(choices), -1), sizes], 1)


def _alive(choices: Choices) -> NDArray[np.bool_]:
    """Return which of the 20 blocks exist, ``[N, 20]``."""
    depth = np.array(DEPTHS)[choices[:, BLOCKS : BLOCKS + len(STRIDES)]]
    return (np.arange(SLOTS) < depth[:, :, None]).reshape(len(choices), BLOCKS)


def canonical(choices: Choices) -> Choices:
    """Return the networks with 0 for absent blocks."""
    same = choices.copy()
    same[:, :BLOCKS][~_alive(choices)] = 0
    return same


class Table:
    """Latencies of a device: ``block_ms [R, 20, 9]`` and ``fixed_ms [R]`` of every network."""

    def __init__(self, path: Path) -> None:
        tables: dict[str, dict[str, Any]] = json.loads(path.read_bytes())["tables"]
        self.name = path.stem.removeprefix("lut_").removesuffix("_17res")
        self.published = tuple(sorted(map(int, tables)))
        self.resolutions = tuple(
            size for size in self.published if (size - MIN_RESOLUTION_PX) % RESOLUTION_STEP_PX == 0
        )
        rows = [_rows(path, size, tables[str(size)]) for size in self.resolutions]
        self.block_ms = np.array([blocks for blocks, _ in rows])
        self.fixed_ms = np.array([fixed for _, fixed in rows])

    def latency_ms(self, choices: Choices) -> Scores:
        size = choices[:, -1]
        blocks = self.block_ms[size[:, None], np.arange(BLOCKS), choices[:, :BLOCKS]]
        return self.fixed_ms[size] + (blocks * _alive(choices)).sum(1)


def problem(table: Table, predictor: Predictor) -> Problem:
    """Return the search problem: accuracy by the predictor, latency by the table."""
    return Problem(
        sizes=(
            *(len(KERNELS) * len(RATIOS),) * BLOCKS,
            *(len(DEPTHS),) * len(STRIDES),
            len(table.resolutions),
        ),
        accuracy=lambda choices: predictor.percent(choices, table.resolutions),
        latency_ms=table.latency_ms,
        canonical=canonical,
    )


def _rows(path: Path, size: int, table: dict[str, Any]) -> tuple[list[list[float]], float]:
    """Return the latencies ``[20][9]`` of blocks at a resolution and of all fixed layers."""

    def ms(key: str) -> float:
        if key not in table:
            raise InvalidFile(str(path), f"missing row {key!r} at {size} px")
        return float(table[key]["mean"])

    at = _half(size)
    fixed_ms = ms(f"Conv-input:{size}x{size}x3-output:{at}x{at}x{WIDTHS[0]}")
    fixed_ms += ms(_key(at, 24, at, 24, 24, 3, 1, 0, 0, 1))
    blocks: list[list[float]] = []
    for stage, stride in enumerate(STRIDES):
        c_in, c_out = WIDTHS[stage : stage + 2]
        flags = SQUEEZE[stage], HARD_SWISH[stage]
        for slot in range(SLOTS):
            out = _half(at) if stride == 2 and slot == 0 else at
            step, source = (stride, c_in) if slot == 0 else (1, c_out)
            blocks.append(
                [
                    ms(_key(at, source, out, c_out, source * e, k, step, *flags, int(slot > 0)))
                    for k in KERNELS
                    for e in RATIOS
                ]
            )
            at = out
    mixed, last = 6 * WIDTHS[-1], 8 * WIDTHS[-1]
    fixed_ms += ms(f"Conv_1-input:{at}x{at}x{WIDTHS[-1]}-output:{at}x{at}x{mixed}")
    fixed_ms += ms(f"AvgPool2D-input:{at}x{at}x{mixed}-output:1x1x{mixed}")
    fixed_ms += ms(f"Conv_2-input:1x1x{mixed}-output:1x1x{last}")
    fixed_ms += ms(f"Logits-input:1x1x{last}-output:1000")
    return blocks, fixed_ms


def _key(
    size: int,
    c_in: int,
    out: int,
    c_out: int,
    mid: int,
    kernel: int,
    stride: int,
    squeeze: int,
    hard_swish: int,
    shortcut: int,
) -> str:
    return (
        f"expanded_conv-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}-expand:{mid}"
        f"-kernel:{kernel}-stride:{stride}-idskip:{shortcut}-se:{squeeze}-hs:{hard_swish}"
    )


def _half(size: int) -> int:
    return (size - 1) // 2 + 1
