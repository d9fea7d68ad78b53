"""Time and memory of one search step on cells, beside plain training of the derived network.

    OMP_NUM_THREADS=1 python -m tools.bench.search.step [--rounds 3] [--json OUT]

Writes results/step.md. Times are of one process in which all methods take turns, in
processor seconds, so that other programs disturb little; every memory is of a process of its own.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable
from datetime import date
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
from hwnas.search.registry import load_strategy, parse_options
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import CellSpace, cell_space
from hwnas.training.loader import Batch
from hwnas.training.loop import keep_freed_memory
from tools.bench.search.memory import kept_bytes, trained
from tools.lib.latency.score import hardware, table

RESULTS = Path(__file__).parent / "results" / "step.md"
SIZE = 32
PLAIN = "plain training"
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "DARTS, first order": ("darts", {}),
    "DARTS, second order": ("darts-2", {}),
    "PC-DARTS": ("pc-darts", {}),
    "ISTA-NAS, two-stage": ("ista", {}),
    "ISTA-NAS, one-stage": ("ista-one-stage", {}),
    "ProxylessNAS": ("proxyless", {}),
    "ProxylessNAS, two paths": ("proxyless", {"estimator": "two"}),
}
"""Strategy and its options."""


class Steps(NamedTuple):
    """What one method does with a batch; the tensors' memory is that of weights, not of steps."""

    weight: Callable[[], object]
    architecture: Callable[[], object] | None
    weights: list[torch.Tensor]


@click.command()
@click.option("--rounds", default=3, show_default=True, help="Turns of each method.")
@click.option("--batch", default=32, show_default=True)
@click.option("--channels", default=8, show_default=True)
@click.option("--layers", default=5, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(rounds: int, batch: int, channels: int, layers: int, out: Path | None) -> None:
    """Measure a weight step and an architecture step of every method."""
    size = channels, layers, batch
    memory = {name: _alone(_memory, name, size) for name in (PLAIN, *METHODS)}
    times_s = _alone(_times, rounds, size)
    plain_s, plain = sum(times_s[PLAIN]), memory[PLAIN]
    darts = memory["DARTS, first order"]
    rows: list[list[object]] = []
    for name in (PLAIN, *METHODS):
        weight_s, arch_s = times_s[name]
        kept, peak = memory[name]["kept_bytes"], memory[name]["rss_bytes"]
        rows.append(
            [
                name,
                f"{weight_s * 1e3:.0f} ({weight_s / plain_s:.2f})",
                f"{arch_s * 1e3:.0f} ({arch_s / plain_s:.2f})" if arch_s else "-",
                f"{(weight_s + arch_s / 2) / plain_s:.2f}",
                f"{(weight_s + arch_s) / plain_s:.2f}",
                f"{kept / 1e6:.1f} ({kept / plain['kept_bytes']:.2f})",
                f"{kept / darts['kept_bytes']:.2f}",
                f"{peak / 1e6:.0f}",
            ]
        )
    titles = [
        "method", "weight step, ms", "architecture step, ms", "2:1", "1:1",
        "activations, MB", "of DARTS", "peak, MB",
    ]  # fmt: skip
    text = (
        "# A search step on cells\n\n"
        f"`python -m tools.bench.search.step --rounds {rounds} --batch {batch} "
        f"--channels {channels} --layers {layers}`, {date.today()}, {hardware()}, "
        f"torch {torch.__version__}, one thread.\n\n"
        f"{layers} cells, {channels} channels wide at first, {SIZE} px, batch {batch}. Plain "
        "training is that of the network that ISTA-NAS computes at the time. In brackets: times "
        "plain training. Steps are medians of processor time, the methods taking turns. `2:1`: two "
        "weight steps to one architecture step, as the search loop does, by weight step; `1:1`: as "
        "in the papers. Activations are the tensors that autograd keeps in the larger of the two "
        "steps, weights excluded; `of DARTS`: as a share of the first order's. Peak: resident "
        "memory over that before the steps. ISTA's one-stage search has one level: its weight step "
        "decides too.\n\n" + table(titles, rows) + "\n"
    )
    RESULTS.write_text(text)
    click.echo(text)
    if out is not None:
        write_json(out, {"times_s": times_s, "memory": memory, "size": size})


def _alone(run: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``run`` returns in a forked process."""
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)

    def answer() -> None:
        torch.set_num_threads(1)
        keep_freed_memory()
        there.send(run(*arguments))

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    found = here.recv()
    child.join()
    click.echo(f"{run.__name__} {arguments}: {found}", err=True)
    return found


def _times(rounds: int, size: tuple[int, int, int]) -> dict[str, tuple[float, float]]:
    """Return the median processor seconds of a weight step and an architecture step."""
    steps = {name: _steps(name, size) for name in (PLAIN, *METHODS)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, one in steps.items():
            taken = _taken(one.weight), _taken(one.architecture)
            if turn:  # the first turn allocates
                found[name].append(taken)
    return {
        name: (median(one[0] for one in taken), median(one[1] for one in taken))
        for name, taken in found.items()
    }


def _taken(step: Callable[[], object] | None) -> float:
    if step is None:
        return 0.0
    start = process_time()
    step()
    return process_time() - start


def _memory(name: str, size: tuple[int, int, int]) -> dict[str, float]:
    one = _steps(name, size)
    before = psutil.Process().memory_info().rss
    one.weight()
    if one.architecture is not None:
        one.architecture()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    both = [step for step in (one.weight, one.architecture) if step is not None]
    kept = max(kept_bytes(step, one.weights) for step in both)
    return {"kept_bytes": kept, "rss_bytes": peak - before}


def _steps(name: str, size: tuple[int, int, int]) -> Steps:
    channels, layers, count = size
    torch.manual_seed(0)
    images = torch.randn(count, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    batch = images, torch.randint(10, (count,))
    space = _space("cells", channels, layers)
    if name == PLAIN:
        chosen = Genotype(space.name, _begun("ista", {}, space).choices)
        step, weights = trained(build(space.architecture(chosen)), *batch)
        return Steps(step, None, list(weights))
    strategy_name, options = METHODS[name]
    if strategy_name == "ista-one-stage":
        space = _space("cells-norm", channels, layers)
    return _searching(_begun(strategy_name, options, space), batch)


def _searching(strategy: Any, batch: Batch) -> Steps:
    strategy.begin_epoch(False)
    if hasattr(strategy, "eigen_stop"):
        strategy._measure_curvature = False  # once an epoch, no part of a step
    one_level = hasattr(strategy, "settled")
    return Steps(
        lambda: strategy.weight_step(batch, 0.01),
        None if one_level else lambda: strategy.architecture_step(batch),
        list(strategy.supernet.parameters()),
    )


def _space(name: str, channels: int, layers: int) -> CellSpace:
    kinds: Any = {"cells": "none", "cells-norm": "pool and skip"}
    return cell_space((3, SIZE, SIZE), 10, channels, layers, norm=kinds[name])


def _begun(name: str, options: dict[str, str], space: CellSpace) -> Any:
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
