"""HELP's FBNet and Once-for-All networks (Lee et al., NeurIPS 2021, arXiv:2106.08630) as blocks.

FBNet: the space of Wu et al. (CVPR 2019, arXiv:1812.03443) at 32 x 32 pixels, as its latencies
show: equal positions have equal block times, and these scale with the shapes. Once-for-All:
MobileNetV3 of Cai et al. (ICLR 2020, arXiv:1908.09791), width 1.0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hwnas.architecture.architecture import Block, round_channels
from hwnas.architecture.size import area
from hwnas.latency_models.features import resources, shapes
from tools.lib.latency.bench import Bench, Floats, Items

FBNET_STAGES = (
    (1, 16, 1),
    (4, 24, 1),
    (4, 32, 2),
    (4, 64, 2),
    (4, 112, 1),
    (4, 184, 2),
    (1, 352, 1),
)
OFA_STAGES = (
    (24, 2, "relu", False),
    (40, 2, "relu", True),
    (80, 2, "hswish", False),
    (112, 1, "hswish", True),
    (160, 2, "hswish", True),
)
OFA_SLOTS = 4


def fbnet(data: Path) -> Bench:
    """Return the 5,000 FBNet networks."""
    file = np.load(data / "help_fbnet.npz", allow_pickle=False)
    names = [str(name) for name in file["op_names"]]
    placed = [[_fbnet_block(name, *place) for name in names] for place in _fbnet_places()]
    fixed = [
        (Block("conv", 3, 16, 3, 1, 1, 32), False),
        (Block("conv", 352, 1504, 1, 1, 1, 4), False),
        (Block("logits", 1504, 100, 1, 1, 1, 4), False),
    ]
    chosen = file["ops"].astype(int)
    rows = [
        [
            *fixed,
            *(block for place, op in enumerate(row) if (block := placed[place][op]) is not None),
        ]
        for row in chosen.tolist()
    ]
    places = np.eye(len(names))[chosen].reshape(len(chosen), -1)
    counted = np.eye(len(names))[chosen].sum(axis=1)
    return _bench("fbnet", rows, counted, places, _columns(file))


def ofa(data: Path) -> Bench:
    """Return the 5,000 Once-for-All networks."""
    file = np.load(data / "help_ofa.npz", allow_pickle=False)
    rows, counted, places = [], [], []
    for kernels, expands, depths, size in zip(
        file["ks"].tolist(), file["e"].tolist(), file["d"].tolist(), file["r"].tolist(), strict=True
    ):
        blocks, used = _ofa_blocks(kernels, expands, depths, size)
        rows.append([(block, False) for block in blocks])
        table = np.zeros((5 * OFA_SLOTS, 9))
        for slot, kernel, expand in used:
            table[slot, 3 * (3, 5, 7).index(kernel) + (3, 4, 6).index(expand)] = 1
        pixels = (size / 224) ** 2
        places.append([*table.ravel(), *(pixels * table).ravel(), pixels])
        counted.append([*table.sum(axis=0), *(pixels * table.sum(axis=0)), pixels])
    return _bench("ofa", rows, np.array(counted), np.array(places), _columns(file))


Placed = tuple[Block, bool]
"""A block, and whether its 1x1 convolutions have two groups."""


def _bench(
    name: str, rows: list[list[Placed]], counted: Floats, places: Floats, ms: dict[str, Floats]
) -> Bench:
    items = list(dict.fromkeys(item for row in rows for item in row))
    index = {item: number for number, item in enumerate(items)}
    counts = np.zeros((len(rows), len(items)))
    for number, row in enumerate(rows):
        for item in row:
            counts[number, index[item]] += 1
    blocks = [block for block, _ in items]
    grouped = np.array([float(grouped) for _, grouped in items])
    amounts = resources(blocks)
    for number, block in enumerate(blocks):
        if grouped[number]:
            # half the dense work, and two shuffles of the channels between the groups
            amounts[number, 1] /= 2
            amounts[number, 4] -= block.in_channels * (block.in_channels + block.out_channels) / 2e6
            amounts[number, 0] += 1
            amounts[number, 3] += 2 * area(block.out_size) * block.out_channels / 1e6
    coordinates, groups = shapes(blocks)
    macs = counts @ amounts[:, 1:3].sum(axis=1)
    at = np.column_stack([coordinates, 2 * grouped])
    items = Items("", counts, amounts, at, np.append(groups, 3))
    return Bench(name, (items,), macs, counted, places, ms, np.arange(len(counts)))


def _fbnet_places() -> list[tuple[int, int, int, int]]:
    places: list[tuple[int, int, int, int]] = []
    channels, size = 16, 32
    for depth, width, stride in FBNET_STAGES:
        for number in range(depth):
            step = stride if number == 0 else 1
            places.append((channels, width, step, size))
            channels, size = width, size // step
    return places


def _fbnet_block(name: str, c_in: int, c_out: int, stride: int, size: int) -> Placed | None:
    if name == "skip":
        same = stride == 1 and c_in == c_out
        return None if same else (Block("conv", c_in, c_out, 1, stride, 1, size), False)
    kernel, expand, *grouped = name.split("_")
    # with an expansion of 1 it still has its first 1x1 convolution: a ratio just above 1
    ratio = float(expand[1:]) if expand != "e1" else 1.001
    block = Block("mbconv", c_in, c_out, int(kernel[1:]), stride, ratio, size)
    return block, bool(grouped)


def _ofa_blocks(
    kernels: list[int], expands: list[int], depths: list[int], size: int
) -> tuple[list[Block], list[tuple[int, int, int]]]:
    size_now, channels = (size + 1) // 2, 16
    blocks = [
        Block("conv", 3, 16, 3, 2, 1, size, "hswish"),
        Block("mbconv", 16, 16, 3, 1, 1, size_now, "relu"),
    ]
    used: list[tuple[int, int, int]] = []
    for stage, (width, stride, activation, gated) in enumerate(OFA_STAGES):
        for number in range(depths[stage]):
            slot = stage * OFA_SLOTS + number
            kernel, expand = kernels[slot], expands[slot]
            step = stride if number == 0 else 1
            mid = round_channels(channels * expand)
            block = Block(
                "mbconv", channels, width, kernel, step, mid / channels, size_now, activation, gated
            )
            blocks.append(block)
            used.append((slot, kernel, expand))
            channels, size_now = width, block.out_size
    blocks += [
        Block("conv", 160, 960, 1, 1, 1, size_now, "hswish"),
        Block("logits", 960, 1280, 1, 1, 1, size_now),
        Block("logits", 1280, 1000, 1, 1, 1, 1),
    ]
    return blocks, used


def _columns(file: np.lib.npyio.NpzFile) -> dict[str, Floats]:
    latency = file["latency_ms"].astype(float)
    return {str(name): latency[:, number] for number, name in enumerate(file["devices"])}
