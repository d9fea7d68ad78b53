"""How well are networks predicted after a measurement with little time?

    python -m tools.evaluate.latency_host.limited --work DIR [--work DIR2 ...] [--space mobile]

Reads the measurements of `tools.evaluate.latency_host.run` in the same directories, and takes those
that `hwnas latency measure --minutes` would take. Budgets are in units of the time of an isolated
block: where a network takes as long (this machine) and where it takes four times as long (a slow
device). Random choices are the baseline. Writes results/limited_SPACE.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import click
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.observation import Observation
from hwnas.profiling.sampling import distinct_blocks
from tools.evaluate.latency_host import designs
from tools.evaluate.latency_host.designs import Seen
from tools.evaluate.latency_host.fresh import FIGURES, score_methods
from tools.evaluate.latency_host.run import (
    SPACES,
    TARGETS,
    Networks,
    measure,
    space_option,
    works_option,
)
from tools.lib.results import command, results_folder, table, write_results

BUDGETS = {1.0: (24, 40, 80), 4.0: (60, 100, 140)}
"""Budgets by the time of a network, both in units of the time of an isolated block."""
CHOICES = 5
SHARES = ("within 5 %", "within 10 %", "RMSPE", "90 % interval", "std")
TITLES = ["target", "network cost", "budget", "plan", "blocks", "networks", *SHARES]

Take = Callable[[Networks, Seen, float, float, int], list[Observation]]
"""A function that chooses observations by networks, their observations, budget, time of a network
and seed."""


@click.command()
@works_option
@space_option
def main(works: Sequence[Path], space_name: str) -> None:
    """Choose measurements within each budget, fit and predict; print the table."""
    space = SPACES[space_name]()
    blocks = distinct_blocks(space)
    rows: list[list[str]] = []
    for target in TARGETS:
        occasions = [measure(space, target, work / space_name / target) for work in works]
        for network_cost, budgets in BUDGETS.items():
            for budget in budgets:
                for name, take in plans(blocks).items():
                    figures = [
                        occasion_figures(take, *occasion, budget, network_cost)
                        for occasion in occasions
                    ]
                    head = [target, f"{network_cost:g}", f"{budget:g}", name]
                    rows.append([*head, *_cells(figures)])
                    click.echo(" ".join(rows[-1]), err=True)
    text = (
        f"Space `{space_name}`, {len(blocks)} blocks, 60 fresh networks on {len(works)} occasions, "
        f"{CHOICES} choices each. Network cost and budget are in units of the time of an isolated "
        "block. planned: the choice of `hwnas latency measure --minutes`."
    )
    called_as = command(__file__, *["--work DIR"] * len(works), f"--space {space_name}")
    path = results_folder(__file__) / f"limited_{space_name}.md"
    title = "Latency models of little time"
    click.echo(write_results(path, title, called_as, text, table(TITLES, rows)))


def plans(blocks: Sequence[Block]) -> dict[str, Take]:
    """Return the plans to spend a budget, by name."""

    def planned(
        networks: Networks, seen: Seen, budget: float, network_cost: float, seed: int
    ) -> list[Observation]:
        first, pool, targets = networks.first, networks.pool, networks.targets
        return designs.limited(blocks, first, pool, targets, seen, budget, network_cost, seed)

    return {
        "planned": planned,
        "random networks": lambda networks, seen, budget, network_cost, seed: (
            designs.observations_of(
                seen, designs.at_random(networks.pool, int(budget / network_cost))(seed)
            )
        ),
        "random blocks and networks": lambda networks, seen, budget, network_cost, seed: (
            designs.half_and_half(blocks, networks.pool, seen, budget, network_cost, seed)
        ),
    }


def occasion_figures(
    take: Take, networks: Networks, first: Seen, second: Seen, budget: float, network_cost: float
) -> list[float]:
    """Return mean counts of blocks and networks, then `SHARES`, of one occasion."""
    choices = [take(networks, first, budget, network_cost, seed) for seed in range(CHOICES)]
    whole = [sum(item.scope == "network" for item in choice) for choice in choices]
    isolated = [
        sum(item.scope == "isolated" and bool(item.blocks) for item in choice) for choice in choices
    ]
    models = list(map(designs.fit, choices))
    row = score_methods("", models, list(networks.fresh), first, second)
    figures = dict(zip(FIGURES, row.figures.tolist(), strict=True))
    return [fmean(isolated), fmean(whole), *(figures[name] for name in SHARES)]


def _cells(figures: list[list[float]]) -> list[str]:
    isolated, whole, *shares = np.mean(figures, axis=0).tolist()
    formatted = [f"{share:{FIGURES[name]}}" for name, share in zip(SHARES, shares, strict=True)]
    return [f"{isolated:.0f}", f"{whole:.0f}", *formatted]


if __name__ == "__main__":
    main()
