"""The fastest network of each device at an accuracy, and a picture of their blocks."""

from __future__ import annotations

from html import escape

import numpy as np

from hwnas.search.blackbox.evolution import (
    EvolutionSettings,
    evolution,
)
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Problem,
)
from tools.evaluate.specialization.ofa import (
    BLOCKS,
    DEPTHS,
    KERNELS,
    RATIOS,
    SLOTS,
    Predictor,
    Table,
    problem,
)

CELL, GAP, LEFT, TOP = 26, 4, 150, 34
COLOURS = {3: "#9ecae1", 4: "#4292c6", 6: "#084594"}
"""Colours of the expansion ratios."""


def fastest_of_accuracy(
    table: Table, predictor: Predictor, percent: float, seeds: int
) -> tuple[Choices, float]:
    """Return the network ``[26]`` with the lowest table latency above ``percent``, and its ms.

    This is `evolution` with accuracy and latency exchanged.
    """
    search = problem(table, predictor)
    swapped = Problem(
        search.sizes,
        lambda rows: -search.latency_ms(rows),
        lambda rows: -search.accuracy(rows),
        search.canonical,
    )
    best = [_best(swapped, percent, seed) for seed in range(seeds)]
    row, ms = min(best, key=lambda result: result[1])
    return row, ms


def _best(swapped: Problem, percent: float, seed: int) -> tuple[Choices, float]:
    rng = np.random.default_rng(seed)
    settings = EvolutionSettings(population=100, islands=3)
    evaluated: EvaluatedSet = evolution(swapped, -percent, rng, settings)
    inside = np.where(evaluated.latency_ms <= -percent, evaluated.accuracy, -np.inf)
    return evaluated.choices[inside.argmax()], -float(inside.max())


def shape_of(table: Table, row: Choices) -> list[float]:
    """Return resolution, number of blocks, mean kernel size and mean expansion of a network."""
    depth = [DEPTHS[choice] for choice in row[BLOCKS:-1]]
    chosen = [
        row[SLOTS * stage + slot] for stage, count in enumerate(depth) for slot in range(count)
    ]
    kernels = [KERNELS[choice // len(RATIOS)] for choice in chosen]
    ratios = [RATIOS[choice % len(RATIOS)] for choice in chosen]
    size = float(table.resolutions[row[-1]])
    return [size, float(sum(depth)), float(np.mean(kernels)), float(np.mean(ratios))]


def picture(title: str, networks: list[tuple[str, Table, Choices]]) -> str:
    """Return an SVG with one row per device and one box per block.

    The side of a box is the kernel size, its colour the expansion.
    """
    height = TOP + len(networks) * (CELL + 3 * GAP) + 44
    width = LEFT + BLOCKS * (CELL + GAP) + 4 * 3 * GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="18" font-size="14">{escape(title)}</text>',
    ]
    for number, (name, table, row) in enumerate(networks):
        middle = TOP + number * (CELL + 3 * GAP) + CELL / 2
        label = f"{name} ({table.resolutions[row[-1]]} px)"
        parts.append(f'<text x="8" y="{middle + 4:.0f}">{escape(label)}</text>')
        for stage in range(BLOCKS // SLOTS):
            for slot in range(DEPTHS[row[BLOCKS + stage]]):
                choice = int(row[SLOTS * stage + slot])
                kernel, ratio = KERNELS[choice // len(RATIOS)], RATIOS[choice % len(RATIOS)]
                left = LEFT + (SLOTS * stage + slot) * (CELL + GAP) + stage * 3 * GAP
                side = CELL * kernel / 7
                edge = (CELL - side) / 2
                parts.append(
                    f'<rect x="{left + edge:.1f}" y="{middle - side / 2:.1f}" width="{side:.1f}" '
                    f'height="{side:.1f}" fill="{COLOURS[ratio]}"/>'
                )
    for number, (ratio, colour) in enumerate(COLOURS.items()):
        left = LEFT + 130 * number
        parts.append(f'<rect x="{left}" y="{height - 26}" width="14" height="14" fill="{colour}"/>')
        parts.append(f'<text x="{left + 20}" y="{height - 14}">expansion {ratio}</text>')
    sides = "side: kernel 3, 5, 7; five stages"
    parts.append(f'<text x="{LEFT + 400}" y="{height - 14}">{sides}</text>')
    return "\n".join([*parts, "</svg>\n"])
