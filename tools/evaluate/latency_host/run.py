"""Is a network's latency on this machine what the latency model says?

    python -m tools.evaluate.latency_host.run --work DIR [--work DIR2 ...] [--space mobile]

Measures every block of a space alone, a design of networks, and fresh networks that no fit sees,
and all networks again in further processes; fits models to parts of the first and predicts the
fresh networks. Figures are means over the directories, each measured by itself. Goes on where
it was cut off; writes results/SPACE.md (``--json OUT``: the rows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from random import Random

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from hwnas.architecture.architecture import Architecture
from hwnas.devices.fingerprint import hardware
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

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
SPACES: dict[str, Callable[[], SearchSpace]] = {
    "mobile": lambda: mobile_space((1, 28, 28), 10),
    "cells": lambda: cell_space((1, 28, 28), 10, channels=16, layers=5),
}
TARGETS = ("host-cpu", "host-cpu-litert")
POOL, FRESH, ENDS, PLAIN = 60, 60, 16, 27
"""Networks to choose from, fresh ones, fresh ones of either end, networks without 7x7."""
DESIGNS = 10
"""Choices of the networks that are fitted to, of each kind."""
TARGETED = 40
"""Networks that a choice without any block is for: random ones, neither measured nor fresh."""


class Networks(msgspec.Struct, frozen=True):
    """The networks of the evaluation, by what they are for."""

    first: tuple[Architecture, ...]
    pool: tuple[Architecture, ...]
    fresh: tuple[Architecture, ...]
    fastest: tuple[Architecture, ...]
    slowest: tuple[Architecture, ...]
    plain: tuple[Architecture, ...]
    """Without any 7x7."""
    targets: tuple[Architecture, ...]
    """Never measured: only what the choice without blocks is for."""


@click.command()
@click.option("--work", "works", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--space", "space_name", type=click.Choice(["mobile", "cells"]), default="mobile")
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(works: Sequence[Path], targets: Sequence[str], space_name: str, out: Path | None) -> None:
    """Measure, fit, predict; print the table."""
    space = SPACES[space_name]()
    rows: list[dict[str, object]] = []
    for target in targets:
        runs = [_rows(space, *measure(space, target, work / space_name / target)) for work in works]
        for run in zip(*runs, strict=True):
            figures = np.mean([row.figures for row in run], axis=0)
            rows.append({"target": target, **table_row(run[0], len(works), figures)})
    _write(space_name, len(works), rows, out)


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
    """Return observations in ms of the first pass's calibration, as a model's user has them."""
    seen = (observation_of(entry, reference_ms) for entry in entries)
    return {observation.blocks: observation for observation in seen}


def _networks(space: SearchSpace, ratio: dict[str, float]) -> Networks:
    """Draw all networks; ``ratio`` are the blocks alone, for the ranking only."""
    costs = cost_table(space, lambda block: ratio[block.key], 0.0)
    rng = Random(1)
    drawn = [space.architecture(space.random(rng)) for _ in range(8 * (POOL + FRESH))]
    drawn = list({block_keys(network): network for network in drawn}.values())
    pool, fresh = drawn[:POOL], drawn[POOL : POOL + FRESH]
    rest = sorted(
        drawn[POOL + FRESH :], key=lambda network: costs.network_ms(network.genotype.choices)
    )
    eighth = len(rest) // 8
    spread = np.linspace(0, eighth - 1, ENDS).astype(int)
    plain: list[Architecture] = []
    while len(plain) < PLAIN and space.name == "mobile":
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
        targets=tuple(space.architecture(space.random(rng)) for _ in range(TARGETED)),
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
    """Return the sum of blocks; with networks, less the null model and scaled to them."""
    ms = {observation.blocks[0]: observation.ms for observation in alone if observation.blocks}
    if not networks:
        return lambda network: sum(ms[block] for block in network.compute_blocks)
    timed = timed_blocks(alone)
    free = dict(zip(timed.blocks, timed.ms.tolist(), strict=True))
    scale = float(np.median([n.ms / sum(free[block] for block in n.blocks) for n in networks]))
    return lambda network: scale * sum(free[block] for block in network.compute_blocks)


def _write(space: str, runs: int, rows: list[dict[str, object]], out: Path | None) -> None:
    titles = list(rows[0])
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(str(row[title]) for title in titles)} |" for row in rows]
    head = (
        "# Latency of fresh networks: predicted and measured on this machine\n\n"
        f"`python -m tools.evaluate.latency_host.run{' --work DIR' * runs} --space {space}`, "
        f"{date.today()}, {hardware()}. "
        f"Space `{space}`, 28x28, {FRESH} fresh random networks, measured on {runs} occasions; "
        "every model is fitted to measurements of one of them. Other process: the same networks "
        "measured again, minutes later, in processes that no fit saw. "
        "90 % interval: the share of measurements inside. Error and weights: their correlation "
        "over networks. "
        f"Figures are means over {DESIGNS} choices of the networks fitted to, each from another "
        f"part of {POOL}.\n\n"
    )
    text = head + "\n".join(lines) + "\n"
    click.echo(text)
    (RESULTS / f"{space}.md").write_text(text)
    if out is not None:
        write_json(out, rows)


if __name__ == "__main__":
    main()
