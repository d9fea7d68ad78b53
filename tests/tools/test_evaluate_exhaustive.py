"""The table of all networks of a space: resumption, contents, regrets and rankings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from hwnas.files import append_lines
from tests.support.data.exhaustive import images
from tools.evaluate.exhaustive import problem, searches, trainings
from tools.evaluate.exhaustive.latencies import Latency
from tools.evaluate.exhaustive.problem import all_choices, architecture
from tools.evaluate.exhaustive.regret import equal_trainings, rank_correlation, regret
from tools.evaluate.exhaustive.searches import Search
from tools.evaluate.exhaustive.table import Table, as_table, make_table
from tools.evaluate.exhaustive.texts import regret_text, table_text
from tools.evaluate.exhaustive.trainings import Training

SPACE = problem.space()
NETWORKS = all_choices(SPACE)


def rising_table() -> Table:
    """Network n is 50 + n / 10 % accurate and takes (n + 1) µs; seed 1 is 0.2 points above."""
    count = len(NETWORKS)
    accuracy = 50 + np.arange(count) / 10
    return Table(
        np.array(NETWORKS),
        np.stack([accuracy - 0.1, accuracy + 0.1], 1),
        np.full((count, 2), 2.0),
        np.arange(count, dtype=float),
        {"onnxruntime": (1 + np.arange(count)) / 1e3},
    )


def a_search(*rows: int, cpu_s: float = 20.0, supernet: tuple[float, ...] = ()) -> Search:
    return Search(
        method="evolution",
        runtime="onnxruntime",
        percentile=50,
        seed=0,
        candidates=tuple(NETWORKS[row] for row in rows),
        cpu_s=cpu_s,
        supernet=supernet,
    )


def test_the_space_has_216_different_networks() -> None:
    assert SPACE.size == len(NETWORKS) == 216
    assert len({architecture(SPACE, choices).digest for choices in NETWORKS}) == 216


def test_each_network_is_in_the_row_of_its_choices() -> None:
    table = rising_table()
    assert table.place(np.array(NETWORKS)).tolist() == list(range(216))


def test_the_table_has_the_seeds_and_runtimes_of_all_networks_only(tmp_path: Path) -> None:
    lines = [Training(row, seed, 0.5 + seed / 10, 2.0) for seed in (0, 1) for row in NETWORKS]
    append_lines(tmp_path / "trainings.jsonl", [*lines, Training(NETWORKS[0], 2, 0.9, 2.0)])
    measured = [Latency(row, "onnxruntime", 0.01, 0.01, 0.1, "wall") for row in NETWORKS]
    partly = Latency(NETWORKS[0], "litert", 0.02, 0.01, 0.1, "wall")
    append_lines(tmp_path / "latencies.jsonl", [*measured, partly])
    rows = make_table(tmp_path)
    assert [row.accuracies for row in rows] == [(50.0, 60.0)] * 216
    assert {tuple(row.latency_ms) for row in rows} == {("onnxruntime",)}
    assert rows[7].macs == architecture(SPACE, NETWORKS[7]).macs
    text = "\n".join(table_text(as_table(rows)))
    assert "Seeds that all networks have: 2" in text and "Latency on: onnxruntime" in text


def test_an_interrupted_training_of_the_table_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = [Training(row, 0, 0.5, 2.0) for row in NETWORKS]
    append_lines(tmp_path / "trainings.jsonl", done)
    monkeypatch.setattr(trainings, "ProcessPoolExecutor", None)  # nothing is left to train
    assert list(trainings.train_all(tmp_path, 1, 1)) == []


def test_a_training_of_the_table_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "_images", lambda task: images())
    monkeypatch.setattr(trainings, "PLAN", msgspec.structs.replace(problem.PLAN, epochs=1))
    once, again = (trainings.train_network(NETWORKS[0], 3) for _ in range(2))
    assert once.test_accuracy == again.test_accuracy
    assert once.seed == 3 and once.cpu_s > 0


def test_the_regret_is_that_of_the_first_network_that_keeps_the_budget() -> None:
    table = rising_table()  # the budget of 50 % is 108.5 µs: rows 0 to 107
    result = regret(table, a_search(200, 97, 87, 104, 107, cpu_s=0.0))
    assert result.first == pytest.approx(1.0)
    assert result.trained == pytest.approx(0.3)  # the best of three that keep it is row 104
    assert result.over == 1
    assert result.random == pytest.approx(np.mean(range(12)) / 10)  # rows 96 to 107
    assert 0 < result.random_trained < result.random


def test_a_search_without_a_network_within_the_budget_has_no_regret() -> None:
    result = regret(rising_table(), a_search(200, 150))
    assert np.isnan(result.first) and np.isnan(result.trained) and result.over == 2


def test_random_search_of_equal_cost_trains_as_long_as_the_search() -> None:
    assert equal_trainings(rising_table(), a_search(0, cpu_s=20.0)) == 3 + 10
    many = regret(rising_table(), a_search(97, cpu_s=1000.0))
    assert many.random_trained == pytest.approx(0.0)


def test_the_rank_correlation_is_one_for_the_truth_and_minus_one_for_its_opposite() -> None:
    table = rising_table()
    truth = table.accuracy.tolist()
    assert rank_correlation(table, truth) == pytest.approx(1.0)
    assert rank_correlation(table, [-value for value in truth]) == pytest.approx(-1.0)


def test_the_regrets_of_a_method_are_in_its_row() -> None:
    ranked = a_search(97, supernet=tuple(rising_table().accuracy / 100))
    text = "\n".join(regret_text(rising_table(), [ranked, a_search(87)]))
    assert "| evolution | 2 | 1.50 ± 0.71 |" in text  # 1 and 2 points
    assert "| evolution | 2 | 1.50 ± 0.50 |" in text  # over all budgets, with the standard error
    assert "| evolution | 1 | 1.00 | 1.00 |" in text  # the ranking


@pytest.mark.parametrize("method", ["NSGA-II", "ProxylessNAS", "ProxylessNAS, judged"])
def test_a_search_with_a_supernet_proposes_networks_in_the_window_and_is_reused(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = searches.SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=64)
    monkeypatch.setattr(searches, "load_images", images)
    monkeypatch.setattr(searches, "PLAN", short)
    warm_up = msgspec.structs.replace(short, search_epochs=0)
    monkeypatch.setattr(searches, "WARM_UP", warm_up)
    monkeypatch.setattr(searches, "PERCENTILES", (50,))
    macs = np.array([float(architecture(SPACE, choices).macs) for choices in NETWORKS])
    few = rising_table()._replace(latency_ms={"onnxruntime": macs / 1e6})
    [line] = searches.search_all(tmp_path, few, 1, (method,))
    predicted = searches.cost_table(few, "onnxruntime")
    budget_ms, (low, high) = few.budget_ms("onnxruntime", 50), searches.WINDOW
    assert line.candidates and line.cpu_s > 0
    assert len(line.supernet) == (0 if method == "NSGA-II" else 216)
    for choices in line.candidates:
        assert low * budget_ms <= predicted.network_ms(choices) <= high * budget_ms
    assert list(searches.search_all(tmp_path, few, 1, (method,))) == []
    assert searches.stored(tmp_path) == [line]
