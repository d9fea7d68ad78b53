"""Rows of the evaluation of cut networks, and what its tables conclude from them."""

from __future__ import annotations

import msgspec
import torch
from torch.nn.functional import one_hot

from tools.evaluate.pretrained.criteria import SCORES, Scores, close, gains_of, scores_of
from tools.evaluate.pretrained.rows import (
    DELIVERED,
    MEMBER,
    RANDOM,
    SIBLING,
    WHOLE,
    Figures,
    Provenance,
    Row,
    Times,
    beside_tuning,
    best,
)
from tools.evaluate.pretrained.tables import (
    accuracy_table,
    budget_text,
    search_table,
    time_table,
)

ROW = Row(
    data="flowers",
    seed=0,
    target="host-cpu",
    percent=50,
    budget_ms=2.0,
    kind=DELIVERED,
    name="elastic 1.1",
    median_ms=1.9,
    validation=0.70,
    test=0.75,
    before=0.4,
)


def row(kind: str, seed: int = 0, **changes: object) -> Row:
    return msgspec.structs.replace(ROW, kind=kind, seed=seed, **changes)


def last_cell(table: str) -> str:
    return table.splitlines()[-1].strip("| ").split(" | ")[-1]


def test_a_network_over_the_budget_is_never_the_best() -> None:
    over = row(WHOLE, median_ms=2.1, validation=0.9)
    assert best([over, ROW]) == ROW
    assert best([over]) is None


def test_the_gain_is_over_the_baseline_of_the_best_validation_accuracy() -> None:
    rows = [
        ROW,
        row(WHOLE, validation=0.68, test=0.72),
        row(SIBLING, validation=0.60, test=0.90),  # lucky on the test images, which choose nothing
        row(SIBLING, validation=0.95, test=0.99, median_ms=2.5),
    ]
    assert last_cell(accuracy_table(rows)) == "+3.0"


def test_the_spread_of_the_gain_is_that_of_pairs_of_one_seed() -> None:
    rows = [
        row(kind, seed, test=base + gain)
        for seed, base in enumerate((0.5, 0.6, 0.7))
        for kind, gain in ((DELIVERED, 0.02), (WHOLE, 0.0))
    ]
    assert last_cell(accuracy_table(rows)) == "+2.0 ± 0.0"


def test_a_budget_that_is_kept_but_wasted_is_not_counted_as_used() -> None:
    rows = [ROW, row(DELIVERED, 1, median_ms=1.0), row(DELIVERED, 2, median_ms=2.2), row(WHOLE)]
    text = budget_text(rows)
    assert text.startswith("2 of 3 delivered networks keep the budget when measured; 1 of them")
    assert "50.0% to 110.0%" in text


def test_random_members_are_beside_the_searched_ones_before_and_after_training() -> None:
    rows = [row(MEMBER, before=0.4, test=0.7), row(RANDOM, before=0.2, test=0.6)]
    assert search_table(rows).splitlines()[-1].endswith("| 40.0 | 70.0 | 1 | 20.0 | 60.0 | 1 |")
    assert search_table(rows[:1]) == ""


def test_what_the_tuning_is_compared_with_leaves_out_the_device_model() -> None:
    stages = {"profile": 500.0, "tune": 100.0, "cut": 20.0, "train": 100.0}
    assert beside_tuning(stages) == 120.0
    first = Times(
        data="flowers", seed=0, target="host-cpu", percent=50, seconds=stages, cpu_s=stages
    )
    second = msgspec.structs.replace(first, percent=35, cpu_s={"train": 60.0})
    assert last_cell(time_table([first])) == "1.20"
    assert last_cell(time_table([first, second])) == "1.00"  # the shared cut counts for both


def provenance(seed: int, date: str) -> Provenance:
    return Provenance(data="flowers", seed=seed, date=date, machine="two cores")


def test_rows_of_other_seeds_stay_and_those_of_the_same_seed_are_replaced() -> None:
    old = Figures().with_seed([row(MEMBER, 0, test=0.1)], [], provenance(0, "2026-11-01"))
    old = old.with_seed([row(MEMBER, 1, test=0.2)], [], provenance(1, "2026-11-01"))
    new = Figures().with_seed([row(MEMBER, 0, test=0.3)], [], provenance(0, "2026-11-02"))
    both = new.beside(old)
    assert [each.test for each in both.rows] == [0.3, 0.2]
    assert [(run.seed, run.date) for run in both.runs] == [(0, "2026-11-02"), (1, "2026-11-01")]


def scores(seed: int, margin: float) -> Scores:
    """Return the scores of a network whose logit of the label is larger by ``margin``."""
    labels = torch.arange(400) % 4
    noise = torch.randn(400, 4, generator=torch.Generator().manual_seed(seed))
    return Scores("flowers", scores_of(noise + margin * one_hot(labels, 4), labels))


def test_every_score_prefers_the_network_that_is_better_everywhere() -> None:
    better, worse = scores(0, 2.5), scores(1, 2.0)
    gains = gains_of(better, worse, splits=50)
    assert set(gains) > set(SCORES)
    assert all(sum(values) > 0 for values in gains.values())


def test_the_order_of_a_pair_changes_nothing() -> None:
    first, second = scores(0, 2.2), scores(1, 2.0)
    assert gains_of(first, second, splits=5) == gains_of(second, first, splits=5)


def test_networks_far_apart_are_no_question() -> None:
    assert close(scores(0, 2.0), scores(1, 2.0))
    assert not close(scores(0, 2.0), scores(1, 0.2))
