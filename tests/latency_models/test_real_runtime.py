"""A search avoids blocks that are slow in LiteRT by their measured costs alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hwnas.architecture.block import Block
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners.local import LocalRunner
from hwnas.latency_models.cost import CostTable, cost_table
from hwnas.profiling.bench import compile_untrained
from hwnas.profiling.sampling import distinct_blocks
from hwnas.search.knapsack import window_samples
from hwnas.spaces.int8 import in_precision
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage

CANDIDATES = tuple(Candidate("mbconv", kernel_size, 6) for kernel_size in (3, 5, 7))
SPACE = MobileSpace(
    name="kernels",
    input_shape=(3, 32, 32),
    num_classes=10,
    stem=(Block("conv", 3, 24, 3, 2, 1, 32),),
    stages=(Stage(24, 2, 1), Stage(32, 2, 2)),
    candidates=CANDIDATES,
    head_width=64,
)


def measured_costs(precision: str, folder: Path) -> CostTable:
    """Measure every block alone in LiteRT, a few rounds; times are ratios to the reference's."""
    space = in_precision(SPACE, precision)
    profile = find_profile("host-cpu-litert")
    spec = msgspec.structs.replace(
        profile.measure, processes=1, min_rounds=5, max_rounds=5, runs=4, warmup_s=0.05
    )
    subjects = []
    for number, block in enumerate(distinct_blocks(space)):
        path = folder / f"{number}.tflite"
        compile_untrained((block,), (), path)
        subjects.append(Subject(block.key, path))
    measured = LocalRunner(msgspec.structs.replace(profile, measure=spec)).measure(subjects)
    ratios = {measurement.name: measurement.ratio for measurement in measured}
    return cost_table(space, lambda block: ratios[block.key], 0.0)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_slow_7x7_is_liked_best_and_hardly_taken_once_its_cost_is_known(
    precision: str, tmp_path: Path
) -> None:
    if precision == "int8":
        pytest.importorskip("ai_edge_quantizer")
    costs = measured_costs(precision, tmp_path)
    small, middle, wide = (np.array([row[place] for row in costs.mean_ms]) for place in range(3))
    assert (wide > 3 * middle).all(), "this LiteRT is not slow at 7x7: the test has no case"
    # as large as with 5x5 everywhere, and a taste of the larger kernel each time
    budget = costs.fixed_ms + 1.05 * float(np.maximum(small, middle).sum())
    liked = [[0.0, 0.7, 1.4][: len(row)] + [0.0] * (len(row) - 3) for row in costs.mean_ms]
    samples = window_samples(liked, costs, 0.5 * budget, budget, 8, np.random.default_rng(0))
    kernels = [choice for network in samples for choice in network]
    assert all(costs.network_ms(network) <= budget for network in samples)
    # a skip or two may pay for one 7x7; that cost unseen, it would be taken everywhere
    assert kernels.count(2) <= len(samples) and kernels.count(1) > kernels.count(2)
    [free, *_] = window_samples(
        liked, costs, 0.0, 2 * costs.largest_ms, 1, np.random.default_rng(0)
    )
    assert set(free) == {2}
