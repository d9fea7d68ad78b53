"""Evolution and NSGA-II on a trained supernet: candidates in the window, best first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.search.blackbox.strategies import NSGA2, Evolution
from hwnas.search.plan import SearchFiles, SearchPlan
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
    strategy.queries = 24
    plan = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=8)
    files = SearchFiles(folder / "search.safetensors", folder / "log.jsonl")
    strategy.search(tiny_data(48), tiny_data(30, seed=1), plan, 0, files)
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
        scores = strategy.evaluator(np.array([genotype.choices for genotype in genotypes]))
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
