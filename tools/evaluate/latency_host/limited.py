"""How well are networks predicted when there was little time to measure?

    python -m tools.evaluate.latency_host.limited --work DIR [--work DIR2 ...] [--space mobile]

Reads what `evaluate_latency_host.py` measured into the same directories, and takes from it what
`hwnas latency measure --minutes` would, for budgets in the time of a block alone: where a network
takes as long (this machine) and where it takes four times as long (a slow device). Beside it random
choices. Writes results/limited_SPACE.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import click
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.devices.fingerprint import hardware
from hwnas.latency_models.observation import Observation
from hwnas.profiling.sampling import distinct_blocks
from tools.evaluate.latency_host import designs
from tools.evaluate.latency_host.designs import Seen
from tools.evaluate.latency_host.fresh import score_methods
from tools.evaluate.latency_host.run import SPACES, TARGETS, Networks, measure

RESULTS = Path(__file__).parent / "results"
CASES = {1.0: (24, 40, 80), 4.0: (60, 100, 140)}
"""Budgets, in the time of a block, by what a network takes in it."""
CHOICES = 5

Take = Callable[[Networks, Seen, float, float, int], list[Observation]]
"""From networks, their measurements, budget, time of a network and seed to what is taken."""


@click.command()
@click.option("--work", "works", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--space", "space_name", type=click.Choice(["mobile", "cells"]), default="mobile")
def main(works: Sequence[Path], space_name: str) -> None:
    """Take, fit, predict; print the table."""
    space = SPACES[space_name]()
    blocks = distinct_blocks(space)
    lines = [
        "| target | a network takes | time | taken | blocks | networks | within 5 % | within 10 % "
        "| RMSPE | 90 % interval | std |",
        f"|{' --- |' * 11}",
    ]
    for target in TARGETS:
        passes = [measure(space, target, work / space_name / target) for work in works]
        for network, budgets in CASES.items():
            for budget in budgets:
                for name, take in plans(blocks).items():
                    rows = [
                        occasion_figures(take, *occasion, budget, network) for occasion in passes
                    ]
                    lines.append(_cells(target, network, budget, name, rows))
                    click.echo(lines[-1], err=True)
    text = (
        "# Latency models of little time\n\n"
        f"`python -m tools.evaluate.latency_host.limited{' --work DIR' * len(works)} --space "
        f"{space_name}`, {date.today()}, {hardware()}. Space `{space_name}`, {len(blocks)} blocks, "
        f"60 fresh networks on {len(works)} occasions, {CHOICES} choices each; time in that of a "
        "block alone. planned: what `hwnas latency measure --minutes` takes.\n\n"
    )
    text += "\n".join(lines) + "\n"
    click.echo(text)
    (RESULTS / f"limited_{space_name}.md").write_text(text)


def plans(blocks: Sequence[Block]) -> dict[str, Take]:
    """Return the ways to spend the time."""
    return {
        "planned": lambda nets, seen, budget, network, seed: designs.limited(
            blocks, nets.first, nets.pool, nets.targets, seen, budget, network, seed
        ),
        "random networks": lambda nets, seen, budget, network, seed: designs.observations_of(
            seen, designs.at_random(nets.pool, int(budget / network))(seed)
        ),
        "random blocks and networks": lambda nets, seen, budget, network, seed: (
            designs.half_and_half(blocks, nets.pool, seen, budget, network, seed)
        ),
    }


def occasion_figures(
    take: Take, networks: Networks, first: Seen, second: Seen, budget: float, network: float
) -> list[float]:
    """Return the figures of one occasion: what was taken, and how well it predicts."""
    taken = [take(networks, first, budget, network, seed) for seed in range(CHOICES)]
    alone = np.mean(
        [
            sum(bool(observation.blocks) and observation.scope == "isolated" for observation in t)
            for t in taken
        ]
    )
    whole = np.mean([sum(observation.scope == "network" for observation in t) for t in taken])
    figures = score_methods(
        "", list(map(designs.fit, taken)), list(networks.fresh), first, second
    ).figures
    return [float(alone), float(whole), *(float(figures[place]) for place in (0, 1, 2, 5, 7))]


def _cells(target: str, network: float, budget: float, name: str, rows: list[list[float]]) -> str:
    alone, whole, *shares = np.mean(rows, axis=0).tolist()
    within_5, within_10, rmspe, covered, std = shares
    return (
        f"| {target} | {network:g} | {budget:g} | {name} | {alone:.0f} | {whole:.0f} "
        f"| {within_5:.1%} | {within_10:.1%} | {rmspe:.2%} | {covered:.1%} | {std:.1%} |"
    )


if __name__ == "__main__":
    main()
