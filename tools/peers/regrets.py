"""How much worse than hwnas's are other libraries' searches for the same number of networks?

    python -m tools.peers.regrets --work DIR [--optuna PYTHON] [--syne-tune PYTHON] [--seeds 20]

``PYTHON`` is that of an environment with the library (``pip install optuna``, ``pip install
"syne-tune[basic]"``); without it the library is left out. Searches of all libraries take turns,
seed by seed, one process at a time; finished ones are in DIR/searches.jsonl and not repeated.
Writes results/regrets.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import msgspec
import numpy as np

from hwnas.files import append_line, read_lines
from hwnas.search.blackbox.evolution import (
    random_search,
    regularised_evolution,
)
from hwnas.search.blackbox.nsga2 import nsga2
from hwnas.search.blackbox.problem import (
    EvaluatedSet,
    Problem,
)
from tools.evaluate.exhaustive.table import TABLE
from tools.evaluate.specialization.bayesian import model_based_search
from tools.evaluate.specialization.nb201 import paths
from tools.lib.options import PATH, data_option, seeds_option, work_option
from tools.lib.results import command, results_folder, sections, table, write_results
from tools.peers.problems import Tabular, nb201_problems, own_problems

RESULTS = results_folder(__file__) / "regrets.md"
SCRIPTS = Path(__file__).parent
POPULATION, TOURNAMENT = 20, 5
EQUAL = 0.3
"""Regret in points at which the numbers of queries are compared."""

Search = Callable[[Problem, float, int, np.random.Generator], EvaluatedSet]


def _nsga2(
    problem: Problem, limit_ms: float, queries: int, rng: np.random.Generator
) -> EvaluatedSet:
    # more generations than needed: many children were evaluated before
    return nsga2(problem, rng, POPULATION, 5 * queries // POPULATION, high_ms=limit_ms)


OWN: dict[str, Search] = {
    "random": random_search,
    "regularised evolution": lambda *a: regularised_evolution(
        *a, population=POPULATION, tournament=TOURNAMENT
    ),
    "NSGA-II": _nsga2,
    "model-based": model_based_search,
}
"""hwnas's searches; ``model-based`` is that of `tools.evaluate.specialization`."""


class Peer(NamedTuple):
    """A method of another library."""

    library: str
    script: str
    method: str


PEERS = {
    "Optuna, TPE": Peer("optuna", "optuna_search.py", "tpe"),
    "Optuna, NSGA-II": Peer("optuna", "optuna_search.py", "nsga2"),
    "Syne Tune, regularised evolution": Peer("syne-tune", "syne_tune_search.py", "evolution"),
}


class Run(msgspec.Struct, frozen=True):
    """One search of one problem."""

    method: str
    problem: str
    seed: int
    regrets: tuple[float, ...]
    """Regret in points after each network whose accuracy was looked up; networks over the limit do
    not count."""
    cpu_s: float
    version: str


@click.command()
@work_option
@data_option
@click.option("--table", "own_table", type=PATH, default=TABLE, help="Table of all networks.")
@click.option("--optuna", type=PATH, help="Python with Optuna.")
@click.option("--syne-tune", type=PATH, help="Python with Syne Tune.")
@seeds_option(20)
def main(
    work: Path,
    data: Path,
    own_table: Path,
    optuna: Path | None,
    syne_tune: Path | None,
    seeds: int,
) -> None:
    """Search the same tabular problems with hwnas and with other libraries."""
    problems = nb201_problems(data)
    problems += own_problems(own_table) if own_table.exists() else []
    pythons = {"optuna": optuna, "syne-tune": syne_tune}
    for run in run_all(work, problems, {k: v for k, v in pythons.items() if v}, seeds):
        click.echo(f"seed {run.seed} {run.problem} {run.method}: {run.regrets[-1]:.2f} points")
    runs = [run for run in read_lines(work / "searches.jsonl", Run) if run.seed < seeds]
    named = "".join(f" --{name} PYTHON" for name, python in pythons.items() if python)
    called_as = command(__file__, f"--work DIR{named} --seeds {seeds}")
    click.echo(
        write_results(RESULTS, "Searches of other libraries", called_as, *text(problems, runs))
    )


def run_all(
    work: Path, problems: Sequence[Tabular], pythons: dict[str, Path], seeds: int
) -> Iterator[Run]:
    """Run the searches that are missing in ``work/searches.jsonl``, all methods of a seed before
    the next."""
    file = work / "searches.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    done = {(run.method, run.problem, run.seed) for run in read_lines(file, Run)}
    methods = [*OWN, *(name for name, peer in PEERS.items() if peer.library in pythons)]
    for seed in range(seeds):
        for method in methods:
            missing = [each for each in problems if (method, each.name, seed) not in done]
            for run in _runs(method, missing, pythons, seed) if missing else ():
                append_line(file, run)
                yield run


def _runs(
    method: str, problems: Sequence[Tabular], pythons: dict[str, Path], seed: int
) -> Iterator[Run]:
    if method in OWN:
        for each in problems:
            yield _own_run(method, each, seed)
        return
    peer = PEERS[method]
    for queries in sorted({each.queries[-1] for each in problems}):
        taken = [each for each in problems if each.queries[-1] == queries]
        with tempfile.TemporaryDirectory() as folder:
            files = [str(each.write(Path(folder))) for each in taken]
            words = [str(pythons[peer.library]), str(SCRIPTS / peer.script)]
            words += [peer.method, str(seed), str(queries), *files]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            output = subprocess.run(
                words, env=environment, check=True, capture_output=True, text=True
            ).stdout
        for each, line in zip(taken, output.splitlines(), strict=True):
            printed = json.loads(line)
            regrets = _regrets(each, printed["order"])
            version = f"{peer.library} {printed['version']}"
            yield Run(method, each.name, seed, regrets, printed["cpu_s"], version)


def _own_run(method: str, each: Tabular, seed: int) -> Run:
    search = OWN[method]
    if method == "model-based" and each.name.startswith("nb201"):
        search = partial(model_based_search, features=paths)
    begun_s = time.process_time()
    rng = np.random.default_rng(seed)
    evaluated = search(each.problem(), each.limit_ms, each.queries[-1], rng)
    spent_s = time.process_time() - begun_s
    keeping = evaluated.choices[evaluated.latency_ms <= each.limit_ms]
    order = each.place(keeping)[: each.queries[-1]].tolist()
    return Run(method, each.name, seed, _regrets(each, order), spent_s, "hwnas")


def _regrets(each: Tabular, order: Sequence[int]) -> tuple[float, ...]:
    """Return the regret after each network."""
    best = np.maximum.accumulate(each.accuracy[list(order)])
    return tuple(np.round(each.best - best, 4).tolist())


def text(problems: Sequence[Tabular], runs: Sequence[Run]) -> list[str]:
    """Return the paragraphs and tables of the results file."""
    versions = sorted({run.version for run in runs} - {"hwnas"})
    what = (
        "Regret in points of accuracy by number of queries: best network within the limit minus "
        "the best that was looked up; mean ± standard deviation over the seeds. A query is one "
        "accuracy; latencies are known before, so a network over the limit costs none, and one "
        "that is proposed again neither. `nb201`: NAS-Bench-201, accuracies of "
        "`analog_nb201_cifar10`, measured latencies; `exhaustive`: the table of "
        "`tools.evaluate.exhaustive`. Limits are percentiles of the latencies. "
        f"`to {EQUAL:g}`: median of the queries to a regret of {EQUAL:g} points; `>`: more than "
        "half of the seeds did not reach it. Core-seconds: processor time of a whole search, "
        "without imports and without any training. Regularised evolution and NSGA-II: population "
        f"{POPULATION}, tournaments of {TOURNAMENT}. Libraries: {', '.join(versions) or 'none'}."
    )
    parts: list[tuple[str, str]] = []
    for each in problems:
        rows = [
            _row(each, method, [run for run in runs if (run.problem, run.method) == chosen])
            for method in (*OWN, *PEERS)
            if any((run.problem, run.method) == (chosen := (each.name, method)) for run in runs)
        ]
        titles = ["search", "seeds", *map(str, each.queries), f"to {EQUAL:g}", "core-seconds"]
        parts.append((each.name, table(titles, rows)))
    return [what, sections(parts)]


def _row(each: Tabular, method: str, runs: Sequence[Run]) -> list[object]:
    curves = [np.array(run.regrets) for run in runs]
    cells: list[object] = []
    for count in each.queries:
        after = [curve[min(count, len(curve)) - 1] for curve in curves]
        spread = f" ± {np.std(after, ddof=1):.2f}" if len(after) > 1 else ""
        cells.append(f"{np.mean(after):.2f}{spread}")
    reached = [
        int(np.argmax(curve <= EQUAL)) + 1 if curve[-1] <= EQUAL else np.inf for curve in curves
    ]
    middle = median(reached)
    spent = f"{np.mean([run.cpu_s for run in runs]):.3f}"
    limit = f"> {each.queries[-1]}" if middle == np.inf else f"{middle:.0f}"
    return [method if method in PEERS else f"hwnas, {method}", len(runs), *cells, limit, spent]


if __name__ == "__main__":
    main()
