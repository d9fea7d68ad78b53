"""Evolution and NSGA-II on a trained supernet: candidates in the window, best first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import CostTable
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.blackbox.strategies import NSGA2, Evolution
from hwnas.search.blackbox.window import evolve_window, window_problem
from hwnas.search.loop import run_search
from hwnas.search.plan import MAX_QUERIES, MIN_QUERIES, SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(widths=(8, 16, 16, 16))
COSTS = tiny_costs(SPACE)
each = pytest.mark.parametrize("kind", [Evolution, NSGA2], ids=["evolution", "nsga2"])


def searched(kind: type[Evolution], folder: Path) -> Evolution:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    strategy = kind.begin(
        SearchContext(space=SPACE, costs=COSTS, budget_ms=4.0, generator=generator)
    )
    plan = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=8)
    files = SearchFiles(folder / "search.safetensors", folder / "log.jsonl")
    run_search(strategy, tiny_data(48), tiny_data(30, seed=1), plan, 0, files)
    assert strategy.queries == MIN_QUERIES
    strategy.queries = 24
    return strategy


@each
def test_candidates_are_distinct_networks_in_the_window_best_first(
    kind: type[Evolution], tmp_path: Path
) -> None:
    strategy = searched(kind, tmp_path)
    for low_ms, high_ms in ((3.0, 3.6), (4.0, 4.6)):
        genotypes = strategy.candidates(4, low_ms, high_ms, seed=1)
        assert len(set(genotypes)) == len(genotypes) == 4
        assert all(
            low_ms <= COSTS.network_ms(genotype.choices) <= high_ms for genotype in genotypes
        )
        scores = strategy.final_judge(np.array([genotype.choices for genotype in genotypes]))
        assert (np.diff(scores) <= 0).all()
        assert genotypes == strategy.candidates(4, low_ms, high_ms, seed=1)


@each
def test_a_resumed_search_trains_nothing_again_and_finds_the_same(
    kind: type[Evolution], tmp_path: Path
) -> None:
    first = searched(kind, tmp_path)
    log = (tmp_path / "log.jsonl").read_bytes()
    again = searched(kind, tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == log
    assert first.candidates(3, 3.0, 3.6, 2) == again.candidates(3, 3.0, 3.6, 2)


@each
def test_an_evaluation_does_not_change_the_supernet(kind: type[Evolution], tmp_path: Path) -> None:
    strategy = searched(kind, tmp_path)
    before = {name: value.clone() for name, value in strategy.state_dict().items()}
    strategy.candidates(3, 3.0, 3.6, 2)
    assert all(torch.equal(value, before[name]) for name, value in strategy.state_dict().items())


@each
def test_networks_are_judged_once_and_as_many_as_planned(
    kind: type[Evolution], tmp_path: Path
) -> None:
    strategy = searched(kind, tmp_path)
    judged: list[tuple[int, ...]] = []
    strategy.judge.weights.supernet.register_forward_hook(
        lambda module, args, output: judged.append(tuple(args[1]))
    )
    strategy.final_judge = strategy.judge
    strategy.candidates(3, 2.0, 4.6, 2)
    assert len(set(judged)) == len(judged) == 24
    strategy.candidates(3, 2.0, 4.6, 2)
    assert len(set(judged)) == len(judged)


def test_a_judgement_is_the_probability_of_the_labels_under_the_statistics_of_the_images(
    tmp_path: Path,
) -> None:
    strategy, row = searched(Evolution, tmp_path), (0, 1, 2, 0)
    network = strategy.network(Genotype(SPACE.name, row)).train()
    [(images, labels)] = tiny_data(30, seed=1).sample(30, 0).in_order(30)
    with torch.no_grad():
        expected = network(images).softmax(1)[torch.arange(30), labels].mean().item()
    assert strategy.judge(np.array([row]))[0] == pytest.approx(expected, abs=1e-6)


def test_in_a_narrow_window_changes_that_make_up_for_each_other_reach_further() -> None:
    """No single change keeps the sum of the choices, so that only pairs of changes stay within the
    window."""
    rng = np.random.default_rng(0)
    costs = CostTable(((0.0, 1.0, 2.0, 3.0),) * 5, 0.0)
    problem = window_problem(costs, lambda rows: rng.random(len(rows)), 7.0)
    start = np.array([[3, 3, 1, 0, 0]])
    judged = evolve_window(problem, start, 7.0, 40, rng)
    assert len(judged.choices) == 40 and (judged.latency_ms == 7.0).all()


@each
def test_without_a_search_networks_are_drawn_at_random(
    kind: type[Evolution], tmp_path: Path
) -> None:
    strategy = searched(kind, tmp_path)
    strategy.judge_on(tiny_data(30), SearchPlan(warmup_epochs=0, search_epochs=0), 48, 0)
    drawn = RandomSearch.candidates(strategy, 4, 3.0, 3.6, 1)
    assert strategy.candidates(4, 3.0, 3.6, 1) == drawn and not strategy.judge.known


def test_more_is_judged_where_more_is_trained_within_bounds() -> None:
    def queries(epochs: int, images: int) -> int:
        return SearchPlan(warmup_epochs=epochs, search_epochs=epochs).queries(images)

    assert [queries(1, 10), queries(50, 50_000)] == [MIN_QUERIES, MAX_QUERIES]
    assert MIN_QUERIES < queries(2, 5000) < queries(4, 5000) < MAX_QUERIES
    # three images judged for each image trained
    assert queries(3, 4000) == round(3 * 6 * 4000 / 256)
