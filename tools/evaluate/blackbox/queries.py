"""How near to the optimum do evolution and NSGA-II come, by the number of networks judged?

    python -m tools.evaluate.blackbox.queries

A synthetic problem with as many decisions as the space of ProxylessNAS: gains of each candidate
grow with its latency on the whole, and neighbouring decisions interact. Latencies are whole
numbers, so that dynamic programming over the last choice and the latency gives the best network of
a window exactly. The searches are those of the strategies, on exact scores, and on scores with the
noise that 256 validation images would have. The table has the distance from the optimum, in
standard deviations of random networks of the window: their mean is about where random choice ends.
"""

from __future__ import annotations

from collections.abc import Callable

import click
import numpy as np

from hwnas.latency_models.cost import CostTable
from hwnas.search.blackbox.evolution import random_search
from hwnas.search.blackbox.problem import (
    Choices,
    EvaluatedSet,
    Scores,
)
from hwnas.search.blackbox.window import (
    evolve_window,
    first_population,
    front_window,
    window_problem,
)
from hwnas.search.knapsack import window_samples
from tools.lib.results import command, results_folder, table, write_results

DECISIONS, CANDIDATES, LARGEST_MS = 21, 7, 40
WINDOW = 0.97
"""Lower end of the window, as a share of the budget; the budget is halfway between the extremes."""
QUERIES = (80, 300, 1000)
NOISE = 1.0
"""Standard deviation of a noisy score, in standard deviations of random networks."""
SAMPLES = 200
"""Random networks of the window that give the unit."""


class Chain:
    """Gains ``[P, K]``, interactions of neighbours ``[P - 1, K, K]`` and whole latencies."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        shape = DECISIONS, CANDIDATES
        cost = np.sort(rng.integers(1, LARGEST_MS + 1, shape), 1)
        self.gains = 0.02 * cost + rng.normal(0, 0.3, shape)
        self.twists = rng.normal(0, 0.2, (DECISIONS - 1, CANDIDATES, CANDIDATES))
        self.cost = cost
        self.costs = CostTable(tuple(tuple(map(float, row)) for row in cost), 0.0)
        self.high_ms = float((self.costs.smallest_ms + self.costs.largest_ms) // 2)
        self.low_ms = WINDOW * self.high_ms
        level = [[0.0] * CANDIDATES] * DECISIONS
        drawn = window_samples(level, self.costs, self.low_ms, self.high_ms, SAMPLES, rng)[1:]
        self.random = np.array(drawn)
        self.unit = float(self.score(self.random).std())

    def score(self, choices: Choices) -> Scores:
        total = self.gains[np.arange(DECISIONS), choices].sum(1)
        for place, twist in enumerate(self.twists):
            total = total + twist[choices[:, place], choices[:, place + 1]]
        return total

    def optimum(self) -> float:
        """Return the best score in the window: ``best[last choice, latency]``, decision by
        decision."""
        length = int(self.high_ms) + 1
        best = np.full((CANDIDATES, length), -np.inf)
        for choice in range(CANDIDATES):
            best[choice, self.cost[0, choice]] = self.gains[0, choice]
        for place in range(1, DECISIONS):
            longer = np.full_like(best, -np.inf)
            for choice in range(CANDIDATES):
                before = (best + self.twists[place - 1][:, choice, None]).max(0)
                cost = self.cost[place, choice]
                longer[choice, cost:] = before[: length - cost] + self.gains[place, choice]
            best = longer
        return float(best[:, int(np.ceil(self.low_ms)) :].max())


def searched(chain: Chain, judge: Callable[[Choices], Scores], queries: int, seed: int) -> dict:
    """Return what each search has evaluated."""
    low_ms, high_ms = chain.low_ms, chain.high_ms
    window, whole = (window_problem(chain.costs, judge, ms) for ms in (low_ms, 0.0))
    start = chain.random[: first_population(queries)]
    rng = np.random.default_rng(seed)
    return {
        "random": random_search(window, high_ms, queries, rng),
        "evolution": evolve_window(window, start, high_ms, queries, rng),
        "nsga2": front_window(whole, low_ms, high_ms, queries, rng),
    }


def noisy(chain: Chain, noise: float, rng: np.random.Generator) -> Callable[[Choices], Scores]:
    """Return a judge whose scores have an error of ``noise`` units."""

    def judge(choices: Choices) -> Scores:
        return chain.score(choices) + noise * chain.unit * rng.normal(size=len(choices))

    return judge


def distance(chain: Chain, result: EvaluatedSet) -> float:
    """Return how far the true score of the network that seems best is from the optimum."""
    inside = (result.latency_ms >= chain.low_ms) & (result.latency_ms <= chain.high_ms)
    best = np.where(inside, result.accuracy, -np.inf).argmax()
    return (chain.optimum() - float(chain.score(result.choices[best][None])[0])) / chain.unit


@click.command(help=__doc__)
@click.option("--seeds", default=8, show_default=True, help="problems, and seeds of the searches")
def main(seeds: int) -> None:
    rows: list[list[object]] = []
    for noise in (0.0, NOISE):
        for queries in QUERIES:
            distances: dict[str, list[float]] = {}
            for seed in range(seeds):
                chain = Chain(seed)
                judge = noisy(chain, noise, np.random.default_rng(1000 + seed))
                for name, result in searched(chain, judge, queries, seed).items():
                    distances.setdefault(name, []).append(distance(chain, result))
            means = [f"{np.mean(d):.2f} ± {np.std(d):.2f}" for d in distances.values()]
            rows.append([f"{noise:g}", queries, *means])
    chains = [Chain(seed) for seed in range(seeds)]
    typical = [(c.optimum() - c.score(c.random).mean()) / c.unit for c in chains]
    note = (
        f"{seeds} problems; a random network of the window is {np.mean(typical):.1f} standard "
        "deviations from the optimum. Mean ± standard deviation over the problems."
    )
    titles = ["noise of a score", "networks judged", "random", "evolution", "nsga2"]
    path = results_folder(__file__) / "queries.md"
    called_as = command(__file__, f"--seeds {seeds}")
    click.echo(
        write_results(path, "Searches by networks judged", called_as, note, table(titles, rows))
    )


if __name__ == "__main__":
    main()
