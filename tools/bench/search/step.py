"""How much time and memory does a search step on cells take beside plain training?

    OMP_NUM_THREADS=1 python -m tools.bench.search.step [--rounds 3] [--json OUT]

Writes ``tools/bench/search/results/step.md``. All methods are timed in one process, where they take
turns, in processor seconds, so that other programs have little effect. The memory of each method is
that of a process of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, NamedTuple

import click
import psutil
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.files import write_json
from hwnas.latency_models.cost import cost_table
from hwnas.nn.build import build
from hwnas.search.cells.darts import Darts
from hwnas.search.cells.ista.one_stage import IstaOneStage
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.training.compute import keep_freed_memory
from hwnas.training.images.loader import Batch
from tools.bench.search.memory import (
    PLAIN,
    activation_bytes,
    peak_rss_bytes,
    run_forked,
    training_step,
)
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "step.md"
IMAGE_SIZE = 32
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "DARTS, first order": ("darts", {}),
    "DARTS, second order": ("darts-2", {}),
    "PC-DARTS": ("pc-darts", {}),
    "ISTA-NAS, two-stage": ("ista", {}),
    "ISTA-NAS, one-stage": ("ista-one-stage", {}),
    "ProxylessNAS": ("proxyless", {}),
    "ProxylessNAS, two paths": ("proxyless", {"estimator": "two"}),
}
"""Strategy and its options, by the name in the table."""


class Steps(NamedTuple):
    """The steps of one method on a batch, and its weights, whose memory is not counted."""

    weight: Callable[[], object]
    architecture: Callable[[], object] | None
    weights: list[torch.Tensor]


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Timed steps of each method.")
@click.option("--batch", default=32, show_default=True)
@click.option("--channels", default=8, show_default=True)
@click.option("--layers", default=5, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the values as JSON.")
def main(rounds: int, batch: int, channels: int, layers: int, out: Path | None) -> None:
    """Measure a weight step and an architecture step of every method."""
    size = channels, layers, batch
    memory = {name: run_forked(_memory, name, size) for name in (PLAIN, *METHODS)}
    times_s = run_forked(_times_s, rounds, size)
    plain_s, plain_bytes = sum(times_s[PLAIN]), memory[PLAIN]["activation_bytes"]
    darts_bytes = memory["DARTS, first order"]["activation_bytes"]
    rows: list[list[str]] = []
    for name in (PLAIN, *METHODS):
        weight_s, arch_s = times_s[name]
        saved_bytes, peak_bytes = memory[name]["activation_bytes"], memory[name]["rss_bytes"]
        rows.append(
            [
                name,
                f"{weight_s * 1e3:.0f} ({weight_s / plain_s:.2f})",
                f"{arch_s * 1e3:.0f} ({arch_s / plain_s:.2f})" if arch_s else "-",
                f"{(weight_s + arch_s / 2) / plain_s:.2f}",
                f"{(weight_s + arch_s) / plain_s:.2f}",
                f"{saved_bytes / 1e6:.1f} ({saved_bytes / plain_bytes:.2f})",
                f"{saved_bytes / darts_bytes:.2f}",
                f"{peak_bytes / 1e6:.0f}",
            ]
        )
    titles = [
        "method",
        "weight step, ms",
        "architecture step, ms",
        "2:1",
        "1:1",
        "activations, MB",
        "of DARTS",
        "peak, MB",
    ]
    text = write_results(
        RESULTS,
        "A search step on cells",
        command(
            __file__,
            f"--rounds {rounds} --batch {batch} --channels {channels} --layers {layers}",
        ),
        f"{layers} cells, {channels} channels in the first, {IMAGE_SIZE} px, batch {batch}. Plain "
        "training is that of the network that ISTA-NAS computes at its start. In brackets: "
        "multiples of plain training. Times are medians of processor time; the methods take turns. "
        "`2:1`: two weight steps per architecture step, as in the search loop, divided by the "
        "number of weight steps; `1:1`: as in the papers. Activations are the tensors that "
        "autograd saves in the larger of the two steps, without weights; `of DARTS`: as a share of "
        "the first order's. Peak: resident memory above that before the steps. The one-stage "
        "search of ISTA-NAS has one level: its weight step trains the architecture too.",
        table(titles, rows),
        conditions=f"torch {torch.__version__}, one thread",
    )
    click.echo(text)
    if out is not None:
        write_json(out, {"times_s": times_s, "memory": memory, "size": size})


def _times_s(rounds: int, size: tuple[int, int, int]) -> dict[str, tuple[float, float]]:
    """Return the median processor seconds of a weight step and an architecture step."""
    keep_freed_memory()
    methods = {name: _steps(name, size) for name in (PLAIN, *METHODS)}
    times_s: dict[str, list[tuple[float, float]]] = {name: [] for name in methods}
    for turn in range(rounds + 1):
        for name, steps in methods.items():
            pair = _cpu_s(steps.weight), _cpu_s(steps.architecture)
            if turn:  # the first turn allocates
                times_s[name].append(pair)
    return {
        name: (median(weight_s for weight_s, _ in pairs), median(arch_s for _, arch_s in pairs))
        for name, pairs in times_s.items()
    }


def _cpu_s(step: Callable[[], object] | None) -> float:
    if step is None:
        return 0.0
    start = process_time()
    step()
    return process_time() - start


def _memory(name: str, size: tuple[int, int, int]) -> dict[str, float]:
    keep_freed_memory()
    steps = _steps(name, size)
    before_bytes = psutil.Process().memory_info().rss
    both = [step for step in (steps.weight, steps.architecture) if step is not None]
    for step in both:
        step()
    peak_bytes = peak_rss_bytes() - before_bytes
    saved_bytes = max(activation_bytes(step, steps.weights) for step in both)
    return {"activation_bytes": saved_bytes, "rss_bytes": peak_bytes}


def _steps(name: str, size: tuple[int, int, int]) -> Steps:
    channels, layers, count = size
    torch.manual_seed(0)
    images = torch.randn(count, 3, IMAGE_SIZE, IMAGE_SIZE).to(memory_format=torch.channels_last)
    batch = images, torch.randint(10, (count,))
    space = _space("cells", channels, layers)
    if name == PLAIN:
        genotype = Genotype(space.name, _begin("ista", {}, space).choices)
        step, weights = training_step(build(space.architecture(genotype)), *batch)
        return Steps(step, None, list(weights))
    strategy_name, options = METHODS[name]
    if strategy_name == "ista-one-stage":
        space = _space("cells-norm", channels, layers)
    return _search_steps(_begin(strategy_name, options, space), batch)


def _search_steps(strategy: Any, batch: Batch) -> Steps:
    strategy.begin_epoch(False)
    if isinstance(strategy, Darts):
        strategy._measure_curvature = False  # once per epoch, so it is no part of a step
    return Steps(
        lambda: strategy.weight_step(batch, 0.01),
        None if isinstance(strategy, IstaOneStage) else lambda: strategy.architecture_step(batch),
        list(strategy.supernet.parameters()),
    )


def _space(name: str, channels: int, layers: int) -> CellSpace:
    kinds: Any = {"cells": "none", "cells-norm": "pool and skip"}
    return cell_space((3, IMAGE_SIZE, IMAGE_SIZE), 10, channels, layers, norm=kinds[name])


def _begin(name: str, options: dict[str, str], space: CellSpace) -> Any:
    torch.manual_seed(0)
    costs = cost_table(space, lambda block: block.macs / 1e6, 0.0)
    budget_ms = costs.network_ms(space.default.choices)
    generator = torch.Generator().manual_seed(0)
    return load_strategy(name).begin(
        SearchContext(
            space=space,
            costs=costs,
            budget_ms=budget_ms,
            generator=generator,
            options=parse_options(name, options),
        )
    )


if __name__ == "__main__":
    main()
