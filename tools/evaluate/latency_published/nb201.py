"""NAS-Bench-201 cells (Dong and Yang, ICLR 2020, arXiv:2001.00326) as sums of operations.

A cell has four nodes and an operation on each of six edges; a network has five cells in each of
three stages (16, 32, 64 channels at 32, 16, 8 pixels). The executed operations of a cell depend on
the runtime: all operations (an eager framework), those whose result reaches the output (a compiler
that removes dead code), or those on a path from input to output (it also folds constants). So there
are three kinds of items, and the measurements decide between them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tools.lib.latency.bench import Bench, Floats, Index, Items

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NONE = 0
STAGES = ((16, 32), (32, 16), (64, 8))
CELLS = 5
FIXED_MMACS = 7.877248
"""Stem, two residual blocks and classifier."""
KINDS = ("fixed", "none", "skip", "conv1", "conv3", "pool", "add")


def nb201(data: Path) -> Bench:
    """Return HELP's 15,625 cells; the rows exclude those without a path to the output."""
    file = np.load(data / "help_nb201.npz", allow_pickle=False)
    ms = {
        str(name): file["latency_ms"][:, number].astype(float)
        for number, name in enumerate(file["devices"])
    }
    return _bench("nb201", file["ops"].astype(int), ms)


def oneproxy(data: Path) -> Bench:
    """Return the 1,999 cells with nn-Meter's and LatBench's measurements.

    The column that repeats HELP's Pixel 3 is excluded.
    """
    names = (data / "oneproxy_nb201_1999.csv").read_text().splitlines()[0].split(",")
    table = np.loadtxt(data / "oneproxy_nb201_1999.csv", delimiter=",", skiprows=1)
    cells = table[:, names.index("nb201_index")].astype(int)
    operations = np.load(data / "help_nb201.npz", allow_pickle=False)["ops"][cells].astype(int)
    measured = [name for name in names if name.startswith(("true", "eagle"))]
    ms = {name: table[:, names.index(name)] for name in measured}
    return _bench("oneproxy", operations, ms)


def _bench(name: str, operations: Index, ms: dict[str, Floats]) -> Bench:
    reached, feeding = _paths(operations)
    live = reached & feeding & (operations != NONE)
    kinds = (
        _items("all operations", operations, np.ones_like(live), 0.5),
        _items("what reaches the output", operations, feeding, 0.25),
        _items("live paths", operations, live, 0.25),
    )
    every, alive = np.eye(5)[operations], np.eye(5)[operations] * live[:, :, None]
    return Bench(
        name,
        kinds,
        FIXED_MMACS + every.sum(axis=1) @ _amounts()[1:6, 1],
        np.column_stack([every.sum(axis=1), alive.sum(axis=1)]),
        np.column_stack([every.reshape(len(every), -1), alive.reshape(len(alive), -1)]),
        ms,
        np.flatnonzero(live.any(axis=1)),
    )


def _items(name: str, operations: Index, executed: Index, prior: float) -> Items:
    """Return the fixed part, an item for each operation at each edge, and additions at nodes."""
    kinds = [(kind, edge) for edge in range(len(EDGES)) for kind in range(5)]
    ends = np.array([end for _, end in EDGES])
    arriving = [(executed & (ends == node)).sum(axis=1) for node in (1, 2, 3)]
    counts = np.column_stack(
        [
            np.ones(len(operations)),
            *((operations[:, edge] == kind) & executed[:, edge] for kind, edge in kinds),
            *(np.maximum(count - 1, 0) for count in arriving),
        ]
    ).astype(float)
    rows = [0, *(1 + kind for kind, _ in kinds), 6, 6, 6]
    places = [(0, 0), *(EDGES[edge] for _, edge in kinds), (1, 1), (2, 2), (3, 3)]
    at = np.column_stack([np.array(places, dtype=float), 4.0 * np.eye(len(KINDS))[rows]])
    groups = np.array([0, 0, *([3] * len(KINDS))])
    return Items(name, counts, _amounts()[rows], at, groups, prior)


def _amounts() -> Floats:
    """Return operators, MACs and elements in millions of all cells, and a one-hot kind.

    The rows are those of `KINDS`.
    """
    maps = CELLS * sum(channels * size**2 for channels, size in STAGES) / 1e6
    dense = CELLS * sum(channels**2 * size**2 for channels, size in STAGES) / 1e6
    cells = CELLS * len(STAGES)
    physical = np.array(
        [
            [20, FIXED_MMACS, 10 * maps / CELLS],
            [cells, 0, 2 * maps],
            [0, 0, 0],
            [3 * cells, dense, 6 * maps],
            [3 * cells, 9 * dense, 6 * maps],
            [cells, 0, 2 * maps],
            [cells, 0, 3 * maps],
        ]
    )
    return np.column_stack([physical, np.eye(len(KINDS))])


def _paths(operations: Index) -> tuple[Index, Index]:
    """Return for each edge whether it depends on the image and whether the output depends on it."""
    reached = np.zeros((len(operations), 4), dtype=bool)
    feeding = np.zeros((len(operations), 4), dtype=bool)
    reached[:, 0] = feeding[:, 3] = True
    for node in (1, 2, 3):
        for number, (start, end) in enumerate(EDGES):
            if end == node:
                reached[:, end] |= reached[:, start] & (operations[:, number] != NONE)
    for node in (2, 1, 0):
        for number, (start, end) in enumerate(EDGES):
            if start == node:
                feeding[:, start] |= feeding[:, end] & (operations[:, number] != NONE)
    starts, ends = [start for start, _ in EDGES], [end for _, end in EDGES]
    return reached[:, starts], feeding[:, ends]
