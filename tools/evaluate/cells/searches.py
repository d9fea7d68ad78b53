"""One search within a processor time, and its ranking of networks."""

from __future__ import annotations

from pathlib import Path
from time import process_time
from typing import Any

import msgspec
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.files import write_json
from hwnas.search.cells.training import skips
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.registry import load_strategy
from hwnas.search.strategy import SearchContext
from hwnas.training.evaluation import RECALIBRATION_IMAGES, accuracy, recalibrate
from hwnas.training.seeds import derived_seed, seeded
from tools.evaluate.cells.problem import Problem, ranked_architectures
from tools.lib.clock import Clock

WARM_UP_SHARE = 0.4
"""Share of the epochs that train weights only."""
RANDOM_CANDIDATES = 8
"""Candidates of random search; the one with the best supernet accuracy is the result."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a search and its cost."""

    method: str
    seed: int
    choices: tuple[int, ...]
    cost_ms: float
    """Cost by the cost table, to compare with the budget."""
    skips: int
    reduction_skips: int
    epochs: int
    core_minutes: float
    """Processor minutes of the search, without the ranking."""
    ranking: tuple[float, ...]
    """Accuracy of the ranked architectures with the search net's weights."""


def search(problem: Problem, method: str, seed: int, folder: Path) -> Search:
    """Search, or return the stored result; an interrupted search continues."""
    path = folder / f"search-{method}-{seed}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Search)
    size = problem.size
    clock = Clock(folder / f"spent-{method}-{seed}.json")
    plan = _plan(problem, method, folder)
    strategy = _start_strategy(problem, method, seed)
    files = SearchFiles(
        folder / f"search-{method}-{seed}.safetensors", folder / f"search-{method}-{seed}.jsonl"
    )
    run_search(strategy, problem.train, problem.valid, plan, seed, files, on_line=clock.note)
    count = RANDOM_CANDIDATES if method == "random" else 1
    genotypes = strategy.candidates(count, *problem.window_ms, derived_seed(seed, "derive"))
    if method == "random":
        genotypes.sort(key=lambda genotype: -_shared_accuracy(problem, strategy, genotype))
    best: Genotype = genotypes[0]
    spent_s = clock.spent_s
    space = problem.spaces[problem.norm_of(method)]
    normal, reduction = skips(space.cells(best))
    result = Search(
        method=method,
        seed=seed,
        choices=best.choices,
        cost_ms=problem.costs[problem.norm_of(method)].network_ms(best.choices),
        skips=normal,
        reduction_skips=reduction,
        epochs=plan.warmup_epochs + plan.search_epochs,
        core_minutes=spent_s / 60,
        ranking=tuple(
            _shared_accuracy(problem, strategy, Genotype(space.name, choices))
            for choices in (ranked_architectures(problem) if size.ranked else ())
        ),
    )
    write_json(path, result)
    files.checkpoint.unlink(missing_ok=True)
    return result


def _start_strategy(problem: Problem, method: str, seed: int) -> Any:
    norm = problem.norm_of(method)
    torch.manual_seed(derived_seed(seed, "supernet"))
    return load_strategy(method).begin(
        SearchContext(
            space=problem.spaces[norm],
            costs=problem.costs[norm],
            budget_ms=problem.budget_ms,
            generator=seeded(seed, "paths"),
            arch_learning_rate=problem.size.arch_learning_rate,
        )
    )


def _plan(problem: Problem, method: str, folder: Path) -> SearchPlan:
    """Return a plan for the given processor time, from the time of three steps.

    The time of a step is stored, so that all seeds have the same plan.
    """
    path = folder / f"step-{method}.json"
    if not path.exists():
        write_json(path, _step_s(problem, method))
    step_s = msgspec.json.decode(path.read_bytes())
    size = problem.size
    steps = max(1, len(problem.train.labels) // size.batch_size)
    epochs = max(2, round(60 * size.search_minutes / (steps * step_s)))
    warm_up = max(1, round(WARM_UP_SHARE * epochs))
    return SearchPlan(
        warmup_epochs=warm_up, search_epochs=epochs - warm_up, batch_size=size.batch_size
    )


def _step_s(problem: Problem, method: str) -> float:
    """Return the mean processor time of a weight step with its share of architecture steps."""
    strategy = _start_strategy(problem, method, 0)
    batch = next(problem.train.in_order(problem.size.batch_size))
    share = 0.5 * (1 - WARM_UP_SHARE)  # an architecture step to two weight steps, after the warm-up
    strategy.weight_step(batch, 0.01)
    if method != "random":
        strategy.architecture_step(batch)
    start_s = process_time()
    for _ in range(3):
        strategy.weight_step(batch, 0.01)
    middle_s = process_time()
    if method != "random":
        for _ in range(2):
            strategy.architecture_step(batch)
    return (middle_s - start_s) / 3 + share * (process_time() - middle_s) / 2


def _shared_accuracy(problem: Problem, strategy: Any, genotype: Genotype) -> float:
    """Return the validation accuracy with the search net's weights."""
    network = strategy.network(genotype)
    recalibrate(network, problem.train.sample(RECALIBRATION_IMAGES // 4, 0))
    return accuracy(network, problem.valid)
