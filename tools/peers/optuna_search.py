"""Optuna on tabular problems, run by the Python that has it.

    python optuna_search.py METHOD SEED QUERIES PROBLEM.npz...

``METHOD`` is ``tpe`` (Optuna's default sampler, with the limit as its constraint) or ``nsga2``
(accuracy and latency as two objectives, with the constraint). Prints a JSON line for each problem:
the networks whose accuracy was looked up, in order, processor seconds, and Optuna's version. A
network over the limit costs no query: its latency is known before. Imports numpy and Optuna (5.0 or
later) only.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

import numpy as np

TRIALS_A_QUERY = 20
"""Trials at most for each query: a sampler may repeat networks or propose slow ones."""
POPULATION = 20


def search(method: str, seed: int, queries: int, file: str) -> dict[str, object]:
    """Search one problem and return its JSON line as a dict."""
    optuna: Any = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    problem = np.load(file)
    sizes, accuracy = tuple(map(int, problem["sizes"])), problem["accuracy"]
    latency_ms, limit_ms = problem["latency_ms"], float(problem["limit_ms"])
    two = method == "nsga2"
    sampler = (
        optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        if two
        else optuna.samplers.TPESampler(seed=seed)
    )
    order: dict[int, None] = {}
    begun_s = time.process_time()
    directions = ["maximize", "minimize"] if two else ["maximize"]
    study = optuna.create_study(directions=directions, sampler=sampler)
    for _ in range(TRIALS_A_QUERY * queries):
        if len(order) >= queries:
            break
        trial = study.ask()
        choices = [
            trial.suggest_categorical(str(place), list(range(size)))
            for place, size in enumerate(sizes)
        ]
        network = int(np.ravel_multi_index(choices, sizes))
        ms = float(min(latency_ms[network], 1e6))
        trial.set_constraint("ms over the limit", ms - limit_ms)
        if ms <= limit_ms:
            order[network] = None
        value = float(accuracy[network]) if ms <= limit_ms else 0.0
        study.tell(trial, [value, ms] if two else value)
    spent_s = time.process_time() - begun_s
    return {"order": list(order), "cpu_s": spent_s, "version": optuna.__version__}


if __name__ == "__main__":
    name, seed, queries, *files = sys.argv[1:]
    for each in files:
        print(json.dumps(search(name, int(seed), int(queries), each)), flush=True)
