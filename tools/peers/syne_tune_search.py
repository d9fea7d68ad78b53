"""Regularised evolution of Syne Tune on tabular problems, run by the Python that has it.

    python syne_tune_search.py evolution SEED QUERIES PROBLEM.npz...

Population 20 and samples of 5, as for hwnas's own. Syne Tune's has no constraint: a network over
the limit counts as one of accuracy 0, and costs no query, as its latency is known before. Prints
what `optuna_search` prints. Imports numpy and Syne Tune only.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

TRIALS_A_QUERY = 20
POPULATION, SAMPLE = 20, 5


def search(seed: int, queries: int, file: str) -> dict[str, object]:
    """Search one problem and return its JSON line as a dict."""
    syne_tune: Any = import_module("syne_tune")
    spaces: Any = import_module("syne_tune.config_space")
    module = "syne_tune.optimizer.schedulers.searchers.regularized_evolution"
    evolution: Any = import_module(module)
    problem = np.load(file)
    sizes, accuracy = tuple(map(int, problem["sizes"])), problem["accuracy"]
    latency_ms, limit_ms = problem["latency_ms"], float(problem["limit_ms"])
    order: dict[int, None] = {}
    np.random.seed(seed)  # the first population is drawn from numpy's global generator
    begun_s = time.process_time()
    space = {
        str(place): spaces.choice([str(candidate) for candidate in range(size)])
        for place, size in enumerate(sizes)
    }
    searcher = evolution.RegularizedEvolution(
        space, population_size=POPULATION, sample_size=SAMPLE, random_seed=seed
    )
    for number in range(TRIALS_A_QUERY * queries):
        if len(order) >= queries:
            break
        config = searcher.suggest()
        choices = [int(config[str(place)]) for place in range(len(sizes))]
        network = int(np.ravel_multi_index(choices, sizes))
        keeps = latency_ms[network] <= limit_ms
        if keeps:
            order[network] = None
        # it minimises
        searcher.on_trial_complete(number, config, -float(accuracy[network]) if keeps else 0.0)
    spent_s = time.process_time() - begun_s
    return {"order": list(order), "cpu_s": spent_s, "version": syne_tune.__version__}


if __name__ == "__main__":
    _, seed, queries, *files = sys.argv[1:]
    for each in files:
        print(json.dumps(search(int(seed), int(queries), each)), flush=True)
