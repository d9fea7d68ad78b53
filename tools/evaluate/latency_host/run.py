"""Is the latency of fresh networks on this machine what the latency model predicts?

    python -m tools.evaluate.latency_host.run --work DIR [--work DIR2 ...] [--space mobile]

Measures every block of a space in isolation, a design of networks, and fresh networks that no model
is fitted to, and all networks again in other processes; fits models to parts of the first pass and
predicts the fresh networks. Figures are means over the directories, each with measurements of its
own. An interrupted run continues. Writes results/SPACE.md (``--json OUT``: the rows, too).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.architecture import Architecture
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import open_runner
from hwnas.files import write_json
from hwnas.latency_models.cost import cost_table
from hwnas.latency_models.fitting.design_matrix import timed_blocks
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.journal import Entry, observation_of, reference_ms_of
from hwnas.profiling.bench import NULL_JOB, Bench, block_keys, isolated_job, network_job
from hwnas.profiling.measure import INITIAL_NETWORKS
from hwnas.profiling.sampling import distinct_blocks, spread_networks
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.mobile.space import mobile_space
from hwnas.spaces.space import SearchSpace
from tools.evaluate.latency_host import designs
from tools.evaluate.latency_host.designs import Seen
from tools.evaluate.latency_host.fresh import Method, Row, score_methods, score_repeat, table_row
from tools.lib.options import json_option
from tools.lib.results import command, results_folder, table_of, write_results

Floats = NDArray[np.float64]
SPACES: dict[str, Callable[[], SearchSpace]] = {
    "mobile": lambda: mobile_space((1, 28, 28), 10),
    "cells": lambda: cell_space((1, 28, 28), 10, channels=16, layers=5),
}
TARGETS = ("host-cpu", "host-cpu-litert")
POOL_NETWORKS, FRESH_NETWORKS, END_NETWORKS, PLAIN_NETWORKS = 60, 60, 16, 27
"""Networks to choose from, fresh ones, fresh ones at each end, networks without 7x7."""
DESIGNS = 10
"""Choices of fitted networks of each kind."""
TARGET_NETWORKS = 40
"""Random networks, neither measured nor fresh, for which a choice without blocks is optimised."""

works_option = click.option(
    "--work", "works", required=True, multiple=True, type=click.Path(path_type=Path)
)
space_option = click.option(
    "--space", "space_name", type=click.Choice(list(SPACES)), default="mobile", show_default=True
)


class Networks(msgspec.Struct, frozen=True):
    """The networks of the evaluation by purpose."""

    first: tuple[Architecture, ...]
    pool: tuple[Architecture, ...]
    fresh: tuple[Architecture, ...]
    fastest: tuple[Architecture, ...]
    slowest: tuple[Architecture, ...]
    plain: tuple[Architecture, ...]
    """Networks without 7x7 kernels."""
    targets: tuple[Architecture, ...]
    """Networks that are never measured; the choice without blocks is optimised for them."""


@click.command()
@works_option
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@space_option
@json_option
def main(works: Sequence[Path], targets: Sequence[str], space_name: str, out: Path | None) -> None:
    """Measure, fit, predict; print the table."""
    space = SPACES[space_name]()
    rows: list[dict[str, object]] = []
    for target in targets:
        runs = [_rows(space, *measure(space, target, work / space_name / target)) for work in works]
        for run in zip(*runs, strict=True):
            figures = np.mean([row.figures for row in run], axis=0)
            rows.append({"target": target, **table_row(run[0], len(works), figures)})
    text = (
        f"Space `{space_name}`, 28x28, {FRESH_NETWORKS} fresh random networks, measured on "
        f"{len(works)} occasions; every model is fitted to measurements of one of them. Other "
        "process: the same networks measured again, minutes later, in processes without fitted "
        "networks. 90 % interval: the share of measurements inside. Error and weights: their "
        f"correlation over networks. Figures are means over {DESIGNS} choices of the fitted "
        f"networks, each from another part of {POOL_NETWORKS}."
    )
    called_as = command(__file__, *["--work DIR"] * len(works), f"--space {space_name}")
    path = results_folder(__file__) / f"{space_name}.md"
    title = "Latency of fresh networks: predicted and measured on this machine"
    click.echo(write_results(path, title, called_as, text, table_of(rows)))
    if out is not None:
        write_json(out, rows)


def measure(space: SearchSpace, target: str, folder: Path) -> tuple[Networks, Seen, Seen]:
    """Return the networks and both passes' observations, by their blocks."""
    blocks = distinct_blocks(space)
    alone = [NULL_JOB, *map(isolated_job, blocks)]
    first = _bench(target, folder / "first", 0).measure(alone)
    costs_ms = {e.keys[0]: e.measurement.ratio for e in first if not e.network and e.keys}
    networks = _networks(space, costs_ms)
    whole = list(map(network_job, _all(networks)))
    first = _bench(target, folder / "first", 0).measure([*alone, *whole])
    second = _bench(target, folder / "second", 1).measure(whole)
    reference_ms = reference_ms_of(first)
    return networks, _by_blocks(first, reference_ms), _by_blocks(second, reference_ms)


def _bench(target: str, folder: Path, seed: int) -> Bench:
    profile = find_profile(target)

    def progress(done: float, planned: float, remark: str) -> None:
        click.echo(f"{folder}: {done}", err=True)

    return Bench(profile, open_runner(profile), folder, seed=seed, progress=progress)


def _by_blocks(entries: Sequence[Entry], reference_ms: float) -> Seen:
    """Return observations by blocks, in ms of the first pass's calibration as users have them."""
    seen = (observation_of(entry, reference_ms) for entry in entries)
    return {observation.blocks: observation for observation in seen}


def _networks(space: SearchSpace, ratio: dict[str, float]) -> Networks:
    """Draw all networks; ``ratio`` has the isolated blocks, for the ranking only."""
    costs = cost_table(space, lambda block: ratio[block.key], 0.0)
    rng = Random(1)
    drawn = [
        space.architecture(space.random(rng)) for _ in range(8 * (POOL_NETWORKS + FRESH_NETWORKS))
    ]
    drawn = list({block_keys(network): network for network in drawn}.values())
    pool, fresh = drawn[:POOL_NETWORKS], drawn[POOL_NETWORKS : POOL_NETWORKS + FRESH_NETWORKS]
    rest = sorted(
        drawn[POOL_NETWORKS + FRESH_NETWORKS :],
        key=lambda network: costs.network_ms(network.genotype.choices),
    )
    eighth = len(rest) // 8
    spread = np.linspace(0, eighth - 1, END_NETWORKS).astype(int)
    plain: list[Architecture] = []
    while len(plain) < PLAIN_NETWORKS and space.name == "mobile":
        network = space.architecture(space.random(rng))
        if not any(block.kernel_size == 7 for block in network.blocks):
            plain.append(network)
    return Networks(
        first=tuple(map(space.architecture, spread_networks(space, costs, INITIAL_NETWORKS, 0))),
        pool=tuple(pool),
        fresh=tuple(fresh),
        fastest=tuple(rest[n] for n in spread),
        slowest=tuple(rest[-1 - n] for n in spread),
        plain=tuple(plain),
        targets=tuple(space.architecture(space.random(rng)) for _ in range(TARGET_NETWORKS)),
    )


def _all(networks: Networks) -> list[Architecture]:
    fields = (networks.first, networks.pool, networks.fresh, networks.fastest, networks.slowest)
    return list(
        {
            block_keys(network): network for part in (*fields, networks.plain) for network in part
        }.values()
    )


def _rows(space: SearchSpace, networks: Networks, first: Seen, second: Seen) -> list[Row]:
    alone = [observation for observation in first.values() if observation.scope == "isolated"]
    fresh, fastest, slowest = map(list, (networks.fresh, networks.fastest, networks.slowest))
    sevens = [n for n in fresh if any(block.kernel_size == 7 for block in n.blocks)]
    line, pool = networks.first, networks.pool
    choices = {
        "20": designs.with_blocks(line, pool, first, 20),
        "10": designs.with_blocks(line, pool, first, 10),
        "bare": designs.without_blocks(line, pool, networks.targets, first, 20),
        "random": designs.at_random(pool, 20),
        "plain": designs.at_random(networks.plain, 20),
    }
    seen = {
        name: [
            [first[network.compute_blocks] for network in choose(seed)] for seed in range(DESIGNS)
        ]
        for name, choose in choices.items()
        if name != "plain" or networks.plain
    }
    full = [designs.fit([*alone, *design]) for design in seen["20"]]
    scaled = [_summed(alone, design) for design in seen["20"]]
    cases: list[tuple[str, Sequence[Method], list[Architecture]]] = [
        ("blocks, null model, 20 networks", full, fresh),
        (
            "blocks, null model, 10 networks",
            [designs.fit([*alone, *design]) for design in seen["10"]],
            fresh,
        ),
        ("20 networks, no blocks", [designs.fit(design) for design in seen["bare"]], fresh),
        ("20 random networks, no blocks", list(map(designs.fit, seen["random"])), fresh),
        (
            "blocks, null model, 20 random networks",
            [designs.fit([*alone, *design]) for design in seen["random"]],
            fresh,
        ),
        ("blocks, null model", [designs.fit(alone)], fresh),
        ("... 20 networks: fastest eighth", full, fastest),
        ("... 20 networks: slowest eighth", full, slowest),
        ("baseline: sum of blocks alone", [_summed(alone, [])], fresh),
        ("baseline: (sum - null model) x scale, 20 networks", scaled, fresh),
        ("baseline: the same: fastest eighth", scaled, fastest),
        ("baseline: the same: slowest eighth", scaled, slowest),
    ]
    if networks.plain:
        without = [designs.fit([*alone, *design]) for design in seen["plain"]]
        cases.append(("7x7: blocks, 20 networks without", without, sevens))
    return [
        score_methods(name, methods, tested, first, second) for name, methods, tested in cases
    ] + [score_repeat(fresh, first, second, "measured again, in another process")]


def _summed(
    alone: list[Observation], networks: list[Observation]
) -> Callable[[Architecture], float]:
    """Return a sum of blocks; with networks, minus the null model and scaled to them."""
    ms = {observation.blocks[0]: observation.ms for observation in alone if observation.blocks}
    if not networks:
        return lambda network: sum(ms[block] for block in network.compute_blocks)
    timed = timed_blocks(alone)
    free = dict(zip(timed.blocks, timed.ms.tolist(), strict=True))
    scale = float(np.median([n.ms / sum(free[block] for block in n.blocks) for n in networks]))
    return lambda network: scale * sum(free[block] for block in network.compute_blocks)


if __name__ == "__main__":
    main()
