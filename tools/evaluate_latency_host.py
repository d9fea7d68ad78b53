"""Is a network's latency on this machine what the latency model says?

    python tools/evaluate_latency_host.py --work DIR [--target host-cpu] [--space mobile]

Measures every block of a space alone, a design of networks, and fresh networks that no fit sees,
twice, in fresh processes; fits models to parts of the first pass and predicts the fresh networks.
Goes on where it was cut off; writes tools/results/latency_host.md (``--json OUT``: the rows).
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

from hwnas.architecture import Architecture
from hwnas.devices.fingerprint import hardware
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import file_sha256, open_runner, reference_file
from hwnas.files import write_json
from hwnas.latency_models.cost import cost_table
from hwnas.latency_models.evidence import timed_blocks
from hwnas.latency_models.fit import fit_model, score
from hwnas.latency_models.journal import Entry, observations_of
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.plan import next_networks
from hwnas.profiling import (
    FIRST,
    Bench,
    Job,
    block_keys,
    distinct_blocks,
    spread_networks,
)
from hwnas.spaces.cells import cell_space
from hwnas.spaces.mobile import mobile_space
from hwnas.spaces.space import SearchSpace

Floats = NDArray[np.float64]
RESULTS = Path(__file__).parent / "results"
SPACES: dict[str, Callable[[], SearchSpace]] = {
    "mobile": lambda: mobile_space((1, 28, 28), 10),
    "cells": lambda: cell_space((1, 28, 28), 10, channels=16, layers=5),
}
TARGETS = ("host-cpu", "host-cpu-litert")
POOL, FRESH, ENDS, PLAIN = 60, 60, 16, 20
"""Networks to choose from, fresh ones, fresh ones of either end, networks without 7x7."""


class Networks(msgspec.Struct, frozen=True):
    """The networks of the evaluation, by what they are for."""

    first: tuple[Architecture, ...]
    pool: tuple[Architecture, ...]
    fresh: tuple[Architecture, ...]
    fastest: tuple[Architecture, ...]
    slowest: tuple[Architecture, ...]
    plain: tuple[Architecture, ...]
    """Without any 7x7."""


@click.command()
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--space", "space_name", type=click.Choice(["mobile", "cells"]), default="mobile")
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(work: Path, targets: Sequence[str], space_name: str, out: Path | None) -> None:
    """Measure, fit, predict; print the table."""
    space = SPACES[space_name]()
    rows: list[dict[str, object]] = []
    for target in targets:
        networks, first, second = _measured(space, target, work / space_name / target)
        rows += [{"target": target, **row} for row in _rows(space, networks, first, second)]
    _write(space_name, rows, out)


def _measured(
    space: SearchSpace, target: str, folder: Path
) -> tuple[Networks, dict[tuple[str, ...], Observation], dict[tuple[str, ...], Observation]]:
    """Return the networks and both passes' observations, by block keys."""
    blocks = distinct_blocks(space)
    alone = [Job((), False, ()), *(Job((one.key,), False, (one,)) for one in blocks)]
    first = _bench(target, folder / "first", 0).measure(alone)
    costs_ms = {e.keys[0]: e.measurement.ratio for e in first if not e.network and e.keys}
    networks = _networks(space, costs_ms)
    whole = [Job(block_keys(one), True, one.blocks, one.inputs) for one in _all(networks)]
    first = _bench(target, folder / "first", 0).measure([*alone, *whole])
    second = _bench(target, folder / "second", 1).measure(whole)
    return networks, _by_keys(first), _by_keys(second)


def _bench(target: str, folder: Path, seed: int) -> Bench:
    profile = find_profile(target)
    said = lambda done, planned: click.echo(f"{folder}: {done}", err=True)  # noqa: E731
    reference = file_sha256(reference_file(profile.runtime))
    return Bench(profile, open_runner(profile), folder, said, seed, reference)


def _by_keys(entries: Sequence[Entry]) -> dict[tuple[str, ...], Observation]:
    return {one.keys: one for one in observations_of(entries)}


def _networks(space: SearchSpace, ratio: dict[str, float]) -> Networks:
    """Draw all networks; ``ratio`` are the blocks alone, for the ranking only."""
    costs = cost_table(space, lambda block: ratio[block.key], 0.0)
    rng = Random(1)
    drawn = [space.architecture(space.random(rng)) for _ in range(8 * (POOL + FRESH))]
    drawn = list({block_keys(one): one for one in drawn}.values())
    pool, fresh = drawn[:POOL], drawn[POOL : POOL + FRESH]
    rest = sorted(drawn[POOL + FRESH :], key=lambda one: costs.network_ms(one.genotype.choices))
    eighth = len(rest) // 8
    spread = np.linspace(0, eighth - 1, ENDS).astype(int)
    plain: list[Architecture] = []
    while len(plain) < PLAIN and space.name == "mobile":
        one = space.architecture(space.random(rng))
        if not any(block.kernel_size == 7 for block in one.blocks):
            plain.append(one)
    return Networks(
        first=tuple(map(space.architecture, spread_networks(space, costs, FIRST, 0))),
        pool=tuple(pool),
        fresh=tuple(fresh),
        fastest=tuple(rest[n] for n in spread),
        slowest=tuple(rest[-1 - n] for n in spread),
        plain=tuple(plain),
    )


def _all(networks: Networks) -> list[Architecture]:
    fields = (networks.first, networks.pool, networks.fresh, networks.fastest, networks.slowest)
    return list(
        {block_keys(one): one for part in (*fields, networks.plain) for one in part}.values()
    )


Seen = dict[tuple[str, ...], Observation]


def _rows(
    space: SearchSpace, networks: Networks, first: Seen, second: Seen
) -> list[dict[str, object]]:
    alone = [one for one in first.values() if one.what == "alone"]
    design = [first[block_keys(one)] for one in _design(networks, first, alone, 20)]
    some = [first[block_keys(one)] for one in _design(networks, first, alone, 10)]
    random20 = [first[block_keys(one)] for one in networks.pool[:20]]
    plain = [first[block_keys(one)] for one in networks.plain]
    full = _fit([*alone, *design])
    sevens = [n for n in networks.fresh if any(b.kernel_size == 7 for b in n.blocks)]
    fresh = list(networks.fresh)
    cases: list[tuple[str, LatencyModel | Callable[[Architecture], float], list[Architecture]]] = [
        ("blocks, null model, 20 networks", full, fresh),
        ("blocks, null model, 10 networks", _fit([*alone, *some]), fresh),
        ("20 networks, no blocks", _fit(design), fresh),
        ("blocks, null model, 20 random networks", _fit([*alone, *random20]), fresh),
        ("blocks, null model", _fit(alone), fresh),
        ("... 20 networks: fastest eighth", full, list(networks.fastest)),
        ("... 20 networks: slowest eighth", full, list(networks.slowest)),
        ("baseline: sum of blocks alone", _summed(alone, []), fresh),
        ("baseline: (sum - null model) x scale, 20 networks", _summed(alone, design), fresh),
        ("baseline: the same: fastest eighth", _summed(alone, design), list(networks.fastest)),
    ]
    if plain:
        cases.append(("7x7: blocks, 20 networks without", _fit([*alone, *plain]), sevens))
    return [_row(name, model, tested, first) for name, model, tested in cases] + [
        _again(fresh, first, second, "measured again (one common scale)")
    ]


def _design(
    networks: Networks, first: Seen, alone: list[Observation], count: int
) -> list[Architecture]:
    """Return our own choice of networks: half spread from end to end, half by the model."""
    chosen = list(networks.first[:: max(1, FIRST * 2 // count)][: count // 2])
    model = _fit([*alone, *(first[block_keys(one)] for one in chosen)])
    targets = [one.blocks for one in networks.first]
    order = next_networks(model, [one.blocks for one in networks.pool], targets, count // 2)
    return [*chosen, *(networks.pool[number] for number in order)]


def _fit(observations: list[Observation]) -> LatencyModel:
    return fit_model("here", observations, source="evaluation", validate=False)


def _summed(
    alone: list[Observation], networks: list[Observation]
) -> Callable[[Architecture], float]:
    """Return the sum of blocks; with networks, less the null model and scaled to them."""
    ms = {one.keys[0]: one.ms for one in alone if one.keys}
    if not networks:
        return lambda one: sum(ms[key] for key in block_keys(one))
    timed = timed_blocks(alone)
    free = {block.key: float(t) for block, t in zip(timed.blocks, timed.ms, strict=True)}
    scale = float(np.median([n.ms / sum(free[key] for key in n.keys) for n in networks]))
    return lambda one: scale * sum(free[key] for key in block_keys(one))


def _row(
    name: str,
    model: LatencyModel | Callable[[Architecture], float],
    tested: list[Architecture],
    measured: Seen,
) -> dict[str, object]:
    truth = np.array([measured[block_keys(one)].ms for one in tested])
    if not isinstance(model, LatencyModel):
        return _errors(name, np.array([model(one) for one in tested]), truth)
    found = model.predict([one.blocks for one in tested])
    said = score(found, truth)
    return {
        **_errors(name, found.mean_ms, truth),
        "in the 90 % interval": f"{said.covered_90:.0%}",
        "std": f"{float(np.mean(found.std_ms / found.mean_ms)):.1%}",
    }


def _again(tested: list[Architecture], first: Seen, second: Seen, name: str) -> dict[str, object]:
    once = np.array([first[block_keys(one)].ms for one in tested])
    again = np.array([second[block_keys(one)].ms for one in tested])
    return _errors(name, again / np.median(again / once), once)


def _errors(name: str, predicted: Floats, truth: Floats) -> dict[str, object]:
    errors = np.abs(predicted / truth - 1)
    ranks = [np.argsort(np.argsort(values)) for values in (predicted, truth)]
    return {
        "fitted to": name,
        "networks": len(truth),
        "within 5 %": f"{(errors <= 0.05).mean():.1%}",
        "within 10 %": f"{(errors <= 0.10).mean():.1%}",
        "RMSPE": f"{np.sqrt((errors**2).mean()):.2%}",
        "Spearman": f"{np.corrcoef(ranks[0], ranks[1])[0, 1]:.3f}",
        "in the 90 % interval": "",
        "std": "",
    }


def _write(space: str, rows: list[dict[str, object]], out: Path | None) -> None:
    titles = list(rows[0])
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(str(row[title]) for title in titles)} |" for row in rows]
    head = (
        "# Latency of fresh networks: predicted and measured on this machine\n\n"
        f"`python tools/evaluate_latency_host.py --work DIR --space {space}`, {date.today()}, "
        f"{hardware()}. "
        f"Space `{space}`, 28x28, {FRESH} fresh random networks of one pass; every model is fitted "
        "to measurements of the same pass, taken in other processes minutes apart.\n\n"
    )
    text = head + "\n".join(lines) + "\n"
    click.echo(text)
    (RESULTS / f"latency_host_{space}.md").write_text(text)
    if out is not None:
        write_json(out, rows)


if __name__ == "__main__":
    main()
