"""Which process measures which models: rounds over fresh processes, in changing company."""

from __future__ import annotations

from math import ceil
from random import Random

import msgspec

from hwnas.devices.profile import MeasureSpec
from hwnas.devices.runner import Progress

COMPANY = 16
"""Models that one worker process measures interleaved, at most."""


def shared(spec: MeasureSpec) -> MeasureSpec:
    """Return what each of the processes does."""
    return msgspec.structs.replace(
        spec,
        min_rounds=ceil(spec.min_rounds / spec.processes),
        max_rounds=ceil(spec.max_rounds / spec.processes),
        max_s=spec.max_s / spec.processes,
    )


def company(count: int, processes: int, seed: int) -> list[tuple[int, list[int]]]:
    """Return which models are measured together: ``processes`` times all, shuffled anew."""
    shuffler = Random(seed)
    plan: list[tuple[int, list[int]]] = []
    for process in range(processes):
        places = list(range(count))
        shuffler.shuffle(places)
        plan += [(process, places[at : at + COMPANY]) for at in range(0, count, COMPANY)]
    return plan


def part_of(progress: Progress | None, number: int, parts: int) -> Progress | None:
    """Return the progress of one process as that of all."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, parts * total)
