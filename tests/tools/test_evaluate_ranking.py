"""The ranking study: what a supernet is judged by, what a ranking is worth, how paths are drawn."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from hwnas.nn.supernet import Supernet
from tests.support.data.exhaustive import images
from tools.evaluate.exhaustive import problem
from tools.evaluate.exhaustive.problem import all_choices
from tools.evaluate.exhaustive.ranking import second_data
from tools.evaluate.exhaustive.ranking.figures import (
    biases,
    corrected_tau,
    random_regret,
    ranking,
    reliability,
)
from tools.evaluate.exhaustive.ranking.scores import all_logits, judge
from tools.evaluate.exhaustive.ranking.supernets import Paths, trained
from tools.evaluate.exhaustive.ranking.texts import Judged, ranking_text
from tools.evaluate.exhaustive.ranking.variants import Variant
from tools.evaluate.exhaustive.table import Table, read_table
from tools.evaluate.exhaustive.trainings import Training

SPACE = problem.space()
NETWORKS = all_choices(SPACE)


def noisy_table(noise: float = 0.0) -> Table:
    """Accuracies of standard deviation 1 with three seeds of ``noise`` each; latency is random."""
    rng = np.random.default_rng(0)
    truth = 80 + rng.standard_normal(len(NETWORKS))
    seeds = truth[:, None] + noise * rng.standard_normal((len(NETWORKS), 3))
    macs = np.array([float(sum(choices)) for choices in NETWORKS])
    latency_ms = {"onnxruntime": rng.uniform(1, 2, len(NETWORKS))}
    return Table(np.array(NETWORKS), seeds, np.full(seeds.shape, 2.0), macs, latency_ms)


def test_the_truth_ranks_with_tau_one_and_without_regret() -> None:
    known = noisy_table()
    right = ranking(known, known.accuracy.tolist())
    for correlation in (right.tau, right.corrected, right.spearman, right.near):
        assert correlation == pytest.approx(1.0)
    assert right.first == right.best == 0.0
    wrong = ranking(known, (-known.accuracy).tolist())
    assert wrong.tau == pytest.approx(-1.0)
    assert wrong.first >= wrong.best > random_regret(known)


def test_the_correction_gives_the_tau_that_a_table_without_noise_would_have() -> None:
    known, clean = noisy_table(noise=1.5), noisy_table()
    measured = reliability(known)
    assert measured.share == pytest.approx(1 / (1 + 1.5**2 / 3), abs=0.1)
    assert ranking(known, clean.accuracy.tolist()).tau == pytest.approx(measured.ceiling, abs=0.05)
    assert corrected_tau(measured.ceiling, measured.share) == pytest.approx(1.0)
    score = clean.accuracy + np.random.default_rng(1).standard_normal(len(NETWORKS))
    corrected = ranking(known, score.tolist()).corrected
    assert corrected == pytest.approx(ranking(clean, score.tolist()).tau, abs=0.05)


def test_a_candidate_that_a_score_favours_has_that_bias() -> None:
    known = noisy_table()
    favoured = known.accuracy + 2.0 * (known.choices[:, 3] == 2)
    rated = biases(known, favoured.tolist())
    name = f"{SPACE.decisions[3].name}: {SPACE.decisions[3].candidates[2]}"
    assert max(rated, key=lambda key: rated[key]) == name
    assert rated[name] > 1
    assert all(abs(value) < 0.5 for key, value in rated.items() if key != name)


def test_all_networks_are_judged_as_each_one_alone() -> None:
    torch.manual_seed(0)
    supernet = Supernet(SPACE)
    batches = list(images().valid.in_order())
    together = all_logits(supernet, batches)
    for number in (0, 77, 215):
        alone = supernet.train()(batches[0][0], NETWORKS[number])
        torch.testing.assert_close(together[number], alone)


def test_judging_gives_a_score_for_every_network_and_leaves_the_supernet_alone() -> None:
    supernet = Supernet(SPACE)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    scores = judge(supernet, images(), recalibrated=False)
    assert {len(values) for values in scores.values()} == {216}
    for name, value in supernet.state_dict().items():
        assert torch.equal(value, before[name])


def test_fair_paths_have_each_candidate_equally_often() -> None:
    paths = Paths(Variant(sampling="fair", paths=12), noisy_table(), 0).draw()
    for column, decision in zip(zip(*paths, strict=True), SPACE.decisions, strict=True):
        counts = Counter(column)
        assert set(counts.values()) == {12 // len(decision.candidates)}


def test_sandwiches_have_the_largest_and_the_smallest_network() -> None:
    known = noisy_table()
    first, *_, last = Paths(Variant(sampling="sandwich", paths=4), known, 0).draw()
    assert first == NETWORKS[int(known.macs.argmax())]
    assert last == NETWORKS[int(known.macs.argmin())]


def test_paths_uniform_in_cost_are_extreme_more_often_than_uniform_ones() -> None:
    known = noisy_table()
    low, high = np.quantile(known.macs, [0.1, 0.9])

    def extreme(sampling: str) -> int:
        paths = Paths(Variant(sampling=sampling, paths=500), known, 0).draw()  # pyright: ignore
        macs = known.macs[known.place(np.array(paths))]
        return int(((macs < low) | (macs > high)).sum())

    assert extreme("cost") > 2 * extreme("uniform")


@pytest.mark.parametrize(
    "variant",
    [
        Variant(epochs=2, batch_size=16, marks=(1,)),
        Variant(epochs=1, batch_size=16, sampling="sandwich", paths=4, whole=True, distil=True),
        Variant(epochs=1, batch_size=16, sampling="fair", paths=4, averaged=0.9),
    ],
)
def test_a_supernet_is_trained_the_same_again(variant: Variant) -> None:
    once, again = (list(trained(variant, noisy_table(), images().train, 3)) for _ in range(2))
    assert [mark.epoch for mark in once] == [*variant.marks, variant.epochs]
    for first, second in zip(once, again, strict=True):
        state = second.supernet.state_dict()
        for name, value in first.supernet.state_dict().items():
            assert torch.equal(value, state[name])


def test_the_figures_of_a_variant_are_in_its_row() -> None:
    known = noisy_table()
    truth = tuple(known.accuracy.tolist())
    names = ("label probability as it is, 2000 images", "accuracy, 2000 images")
    lines = [Judged("fair", seed, 12, 5.0, dict.fromkeys(names, truth)) for seed in (0, 1)]
    text = "\n".join(ranking_text(known, lines))
    assert "| fair | sampling fair, paths 4 | 2 | 1.00 ± 0.00 |" in text


def test_networks_of_the_second_data_set_take_about_the_same_time() -> None:
    known = read_table()
    chosen = second_data.chosen_networks(known, 24)
    assert len(set(chosen)) == 24
    runtime, percentile = second_data.RUNTIME, second_data.PERCENTILE
    share = known.latency_ms[runtime] / known.budget_ms(runtime, percentile)
    of_chosen = share[known.place(np.array(chosen))]
    assert of_chosen.min() >= second_data.LOW and of_chosen.max() <= 1.0


def test_rankings_of_the_second_data_set_are_compared_with_the_mean_of_complete_seeds() -> None:
    rates = {(NETWORKS[row], seed): 0.4 + 0.01 * row for row in range(4) for seed in (0, 1)}
    rates[NETWORKS[0], 2] = 0.9  # of a seed that is not complete
    trainings = [Training(choices, seed, rate, 1.0) for (choices, seed), rate in rates.items()]
    scores = {"right": (1.0, 2.0, 3.0, 4.0), "reversed": (4.0, 3.0, 2.0, 1.0)}
    judged = [second_data.Judged("one path", seed, 1.0, scores) for seed in (0, 1)]
    text = "\n".join(second_data.second_text(trainings, judged))
    assert "40.0 to 43.0 %" in text and "2 seeds" in text
    assert "Kendall's tau of two seeds: 1.00" in text and "a random one loses 1.50" in text
    assert "| one path | right | 2 | 1.00 ± 0.00 | 0.00 ± 0.00 |" in text
    assert "| one path | reversed | 2 | -1.00 ± 0.00 | 3.00 ± 0.00 |" in text
    assert second_data.second_text(trainings[1:3], judged) == [
        "The trainings are not complete yet."
    ]
