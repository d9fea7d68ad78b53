"""The size of networks of cells in an effort of a paper: the paper's, if the budget allows it.

DARTS searches cells in a small network and trains a larger one (`hwnas.spaces.cells.sizes`). So
latency model, budget, measurements and trainings are those of the larger networks; the search net
alone is small. Where the paper's network exceeds a budget in ms, the size is the largest at which
the cells of DARTS keep it, measured on the device.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from hwnas.recovery import is_run
from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.sizes import SEARCH_SIZE, network_sizes, sized_name, unsized_name
from hwnas.spaces.cells.space import DEFAULT_CELLS
from hwnas.spaces.find import find_space
from hwnas.spaces.int8 import in_precision
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, resolve
from hwnas.specialize.setup.scale.uniform import fits, measured_ms
from hwnas.specialize.spec import Milliseconds, RunSpec, read_spec

SPACES = ("cells", "cells-norm")


def sized(spec: RunSpec, resources: Resources, folder: Path | None = None) -> RunSpec:
    """Return ``spec`` with the size of the networks in the name of its space.

    It stays the same if the space has no cells or its size is given, and in efforts that do not
    follow a paper, which train networks of the size in which they search. Of several precisions and
    resolutions the first decides. A run that exists in ``folder`` keeps its size.
    """
    if not chooses_size(spec):
        return spec
    if folder is not None and is_run(folder):
        space = read_spec(folder).space
        return replace(spec, space=space) if unsized_name(space) == spec.space else spec
    first = replace(spec, precisions=spec.precisions[:1], resolutions=spec.resolutions[:1])
    size, reason = _size(first, resources)
    name = sized_name(spec.space, size)
    net = SEARCH_SIZE if spec.space == "cells" else "the same size"
    resources.console.say(f"--space {name}: networks of {size}, searched in {net}; {reason}")
    return replace(spec, space=name)


def chooses_size(spec: RunSpec) -> bool:
    """Return whether a run has cells without a stated size, and the effort of a paper."""
    return spec.space in SPACES and not spec.starts_trained and EFFORTS[spec.effort].is_papers


def _size(spec: RunSpec, resources: Resources) -> tuple[StackSize, str]:
    """Return the size of the networks, and the reason for it."""
    run = resolve(spec, resources)
    profile, runner = run.target
    spaces = {
        size: in_precision(
            find_space(
                sized_name(spec.space, size), run.dataset.input_shape, run.dataset.num_classes
            ),
            spec.precision,
        )
        for size in network_sizes(run.dataset.input_shape)
    }
    paper, *_ = spaces
    fitting = [size for size, space in spaces.items() if fits(space, profile)] or [paper]
    largest = fitting[0]
    why = "as in the paper" if largest == paper else f"{profile.name} takes no file of {paper}"
    if runner is None or not isinstance(spec.budget, Milliseconds):
        return largest, why
    budget_ms = spec.budget.value

    @cache
    def default_ms(size: StackSize) -> float:
        space = spaces[size]
        network = space.architecture(space.default)
        [latency_ms] = measured_ms({str(size): network}, profile, runner).values()
        return latency_ms

    ascending = fitting[::-1]
    keeping = bisect_right(ascending, budget_ms, key=default_ms)
    size = ascending[max(0, keeping - 1)]
    text = f"{DEFAULT_CELLS} takes {default_ms(size):.4g} of {budget_ms:.4g} ms"
    if size == largest:
        return size, f"{why}: {text}"
    return size, f"{text}, and in {largest} {default_ms(largest):.4g} ms"
