"""Number of threads that train a supernet: more than one only for photos."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import cast

from msgspec.structs import replace

from hwnas.processes import physical_cores
from hwnas.search.plan import SearchPlan
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import SteppedStrategy
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.specialize.setup.augmentation import PHOTO_SIZE
from hwnas.specialize.setup.device import training_threads
from hwnas.specialize.setup.work.pace import Setting, begin_search, search_pace
from hwnas.training.compute import Compute
from hwnas.training.distributed import ranks
from hwnas.training.images.loader import as_data

MEASURED_S = 0.5
"""Time for measuring a number of threads."""
MEASURED_IMAGES = 16
"""Images of a batch that is measured."""
MAX_TIME_RATIO = 1.1
"""Ratio to the best time that a smaller number of threads may take."""


def supernet_threads(setting: Setting, compute: Compute) -> int:
    """Return the threads for the supernet of a run.

    Operations on small images are too short to be divided among threads. Small images use one
    thread, so that their results do not depend on a measurement: another number of threads changes
    the rounding.
    """
    if isinstance(in_float(setting.space), ElasticSpace):
        # one whole network is tuned; beside a GPU, its cuts are still solved and judged on the CPU
        return training_threads(setting.dataset.input_shape[1], 1)
    most, own_loop = physical_cores(), load_strategy(setting.spec.strategy).traits.own_loop
    small = setting.dataset.input_shape[1] < PHOTO_SIZE
    if small or own_loop or most == 1 or compute.kind != "cpu" or ranks() > 1:
        return 1
    counts = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return fewest_threads({count: _step_ms(setting, compute, count) for count in counts})


def fewest_threads(times_ms: Mapping[int, float]) -> int:
    """Return the least number of threads whose time is within `MAX_TIME_RATIO` of the best."""
    best_ms = min(times_ms.values())
    return min(count for count, time_ms in times_ms.items() if time_ms <= MAX_TIME_RATIO * best_ms)


def _step_ms(setting: Setting, compute: Compute, threads: int) -> float:
    """Return the time of a weight step in ms per image."""
    compute = replace(compute, threads=threads)
    compute.start()
    strategy = cast(SteppedStrategy, begin_search(setting._replace(compute=compute), 0.0))
    data = setting.dataset
    train, valid = (as_data(part, data, compute) for part in (data.train, data.valid))
    plan = SearchPlan(batch_size=min(MEASURED_IMAGES, len(train.labels)))
    return search_pace(strategy, train, valid, plan, MEASURED_S, time.perf_counter)[0]
