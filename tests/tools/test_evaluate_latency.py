"""The evaluation of latency models: equal posteriors, designs, operators and scores."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from torch import Tensor, nn

from hwnas.spaces.mobile.space import mobile_space


def _bench(networks: int = 60, items: int = 9):
    from tools.lib.latency.bench import Bench, Items

    rng = np.random.default_rng(0)
    counts = rng.integers(0, 3, (networks, items)).astype(float)
    amounts = np.column_stack([np.ones(items), rng.uniform(0.5, 5, (items, 2))])
    at, groups = rng.uniform(0, 5, (items, 5)), np.array([0, 0, 1, 2, 3])
    cost = amounts @ np.array([0.1, 0.3, 0.2]) * rng.uniform(0.9, 1.1, items)
    ms = (counts @ cost + 0.2) * rng.normal(1, 0.01, networks)
    made = Items("", counts, amounts, at, groups)
    every = np.arange(networks)
    return Bench("made up", (made,), counts @ amounts[:, 1], counts, counts, {"it": ms}, every)


def test_the_evidence_is_the_likelihood_of_the_networks() -> None:
    from scipy.stats import multivariate_normal

    from tools.lib.latency import learn

    bench = _bench()
    items, ms, train = bench.items[0], bench.ms["it"], np.arange(30)
    prior = learn.untimed_prior(items.counts[train], items.amounts, ms[train])
    cost = items.amounts @ np.array(prior.weights)
    zeros = np.zeros((len(cost), len(cost)))
    costs, params = learn.BlockCosts(cost, zeros), np.zeros(len(cost))
    features = learn.BlockFeatures(items.amounts, items.coordinates, items.groups, params)
    grid = learn.BlockGrid((), costs, features, prior, null_ms=0.0)
    error, is_network, none = np.full(30, 1e-3), np.ones(30), [0] * 30
    data = learn.NetworkData(items.counts[train], ms[train], error, is_network, none, none)
    names = ["common", "shares", "shape", "each", "overhead", "noise"]
    terms = learn.CovarianceTerms(learn.Design(data, grid, 0.05), names)
    residual, fixed = ms[train] - items.counts[train] @ cost, (1e-3 * ms[train]) ** 2

    def difference(evidence: bool) -> float:
        """Return the log likelihood of some scales less that of others."""
        values: list[float] = []
        for sizes in ((0.1, 0.5, 0.2, 0.04, 1.0, 0.01), (0.3, 0.2, 0.1, 0.02, 0.5, 0.03)):
            scales = dict(zip(names, sizes, strict=True))
            if evidence:
                draw = learn._predict_draw(  # pyright: ignore[reportPrivateUsage]
                    terms, scales, fixed, residual, terms.on_state[:1]
                )
                values.append(draw[2])
                continue
            parts = [scales[name] ** 2 * terms.gram(name, np.arange(30)) for name in names]
            covariance = np.diag(fixed) + np.sum(parts, axis=0)
            values.append(float(multivariate_normal(np.zeros(30), covariance).logpdf(residual)))
        return values[0] - values[1]

    assert difference(True) == pytest.approx(difference(False), rel=1e-6)


def test_networks_are_predicted_better_than_by_a_line_on_macs() -> None:
    from tools.lib.latency import learn

    bench, train, test = _bench(), np.arange(20), np.arange(20, 60)
    ms = bench.ms["it"]
    errors = learn.gaussian(bench, train, test, ms).mean_ms / ms[test] - 1
    line = learn.line_on_macs(bench, train, test, ms) / ms[test] - 1
    assert np.sqrt((errors**2).mean()) < 0.5 * np.sqrt((line**2).mean())


def test_informative_networks_are_distinct_and_from_both_ends() -> None:
    from tools.lib.latency.choice import informative_networks

    bench = _bench()
    networks = informative_networks(bench, 12, 0)
    assert len(set(networks.tolist())) == 12
    order = np.argsort(np.argsort(bench.macs))[networks]
    assert (order < 8).sum() >= 3 and (order >= 52).sum() >= 3


def test_an_analysed_network_has_the_operators_of_a_converted_file() -> None:
    from tools.evaluate.latency_published.operators import Operator, macs_of, operators_of

    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Conv2d(8, 16, 1, groups=2),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).to("meta")
    operators = operators_of(module, 32)
    assert set(operators) == {
        Operator("dense", 3, 8, 3, 2, 1, 32, 16),
        Operator("depthwise", 8, 8, 3, 1, 8, 16, 16),
        Operator("grouped", 8, 16, 1, 1, 2, 16, 16),
        Operator("activate", 16, 16, 1, 1, 1, 16, 16),
        Operator("mean", 16, 16, 1, 1, 1, 16, 1),
        Operator("linear", 16, 10),
        Operator("fixed", 1, 1),
    }
    by_hand = 256 * (27 * 8 + 9 * 8 + 4 * 16) + 160
    assert macs_of(operators) == pytest.approx(by_hand / 1e6)


def test_a_join_reads_both_of_its_inputs() -> None:
    from tools.evaluate.latency_published.operators import AMOUNTS, operators_of

    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + x.relu()) * x.mean((2, 3), keepdim=True)

    module = nn.Sequential(nn.Conv2d(3, 8, 1), Gated()).to("meta")
    elements = AMOUNTS.index("elements")
    moved = sorted(
        operator.amounts[elements]
        for operator in operators_of(module, 32)
        if operator.kind == "join"
    )
    whole = 32 * 32 * 8
    assert moved == pytest.approx([(2 * whole + 8) / 1e6, 3 * whole / 1e6])


@pytest.mark.parametrize("inplace", [False, True])
def test_a_written_out_h_swish_is_one_operator_as_after_conversion(
    inplace: bool,
) -> None:
    from tools.evaluate.latency_published.operators import Operator, operators_of

    class WrittenOut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * nn.functional.relu6(x + 3.0, inplace=inplace) / 6.0

    class NotIt(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + x) * nn.functional.relu6(x + 3.0, inplace=inplace) / 6.0

    conv = nn.Conv2d(3, 8, 3, 2, 1)
    written = nn.Sequential(conv, WrittenOut(), nn.Conv2d(8, 8, 1), WrittenOut()).to("meta")
    called = nn.Sequential(conv, nn.Hardswish(), nn.Conv2d(8, 8, 1), nn.Hardswish()).to("meta")
    assert operators_of(written, 32) == operators_of(called, 32)
    activate = Operator("activate", 8, 8, 1, 1, 1, 16, 16)
    assert operators_of(written, 32)[activate] == 2
    other = operators_of(nn.Sequential(conv, NotIt()).to("meta"), 32)
    assert other.total() == operators_of(written, 32).total() + 1


def test_cells_that_compute_the_same_are_one_group() -> None:
    from tools.evaluate.latency_published import repeats

    conv3, pool, skip = 3, 4, 1
    # edges: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3
    by_one = [conv3, 0, 0, skip, pool, 0]
    by_two = [0, conv3, 0, skip, 0, pool]
    through = [conv3, 0, skip, skip, 0, pool]
    other = [pool, 0, 0, skip, conv3, 0]
    dead = [conv3, conv3, 0, skip, pool, 0]
    assert repeats.expression(by_one) == "(4(3(x))+x)" == repeats.expression(by_two)
    assert repeats.expression(through) == repeats.expression(by_one)
    assert repeats.expression([0, 0, conv3, 0, 0, conv3]) == "0"
    rows = np.array([by_one, by_two, through, other, dead])
    # another skip or an unused convolution is different work
    assert repeats.equal_cells(rows, np.arange(5)) == [[0, 1]]


def test_the_noise_of_a_column_is_estimated_from_its_equal_networks() -> None:
    from tools.evaluate.latency_published import repeats

    rng = np.random.default_rng(0)
    groups = [[3 * n, 3 * n + 1, 3 * n + 2] for n in range(2000)]
    true = np.repeat(np.exp(rng.normal(0, 0.3, 2000)), 3)
    ms = true * np.exp(rng.normal(0, 0.1, 6000))
    rank, noise = repeats.measurement_noise(groups, ms)
    assert noise == pytest.approx(0.1, rel=0.05)
    best: Any = spearmanr(true, ms)
    assert np.sqrt(rank) == pytest.approx(best.statistic, abs=0.01)
    assert repeats.measurement_noise(groups, true) == (pytest.approx(1.0), 0.0)


def test_each_kind_of_block_has_a_forest_of_its_own() -> None:
    pytest.importorskip("sklearn")
    from hwnas.latency_models.observation import Observation
    from tools.evaluate.latency_published.forests import BlockForests

    network = mobile_space((1, 28, 28), 10).default
    blocks = mobile_space((1, 28, 28), 10).architecture(network).compute_blocks
    ops = list(dict.fromkeys(block.op for block in blocks))
    assert len(ops) > 1
    timed = [Observation("in_network", (block,), 1.0 + ops.index(block.op)) for block in blocks]
    forests = BlockForests.fitted(timed)
    assert forests.blocks_ms(blocks).tolist() == [each.ms for each in timed]
    assert forests.network_ms(blocks) == pytest.approx(sum(each.ms for each in timed))


def test_ten_cells_are_scored_with_and_without_both_ends(tmp_path: Path) -> None:
    from tools.evaluate.latency_published import ten_cells
    from tools.lib.latency.score import Cache

    bench = _bench(400)._replace(ms={"2080ti_1": _bench(400).ms["it"]})
    np.savez(tmp_path / "help_nb201.npz", hw_embedding_index=np.arange(40, 50))
    cache = Cache(tmp_path / "cache.jsonl")
    ten_cells.run(bench, tmp_path, cache, seeds=2)
    own = [key for key in cache.rows if ten_cells.OWN_CELLS in key]
    assert len(cache.rows) == 2 * len(ten_cells.CHOICES) + 1 and len(own) == 1
    for everywhere, inside in cache.rows.values():
        assert 0.8 < inside < everywhere < 1  # a narrower range is harder to rank
    published = [value for group in ten_cells.PUBLISHED.values() for value in group.values()]
    assert np.mean(published) == pytest.approx(0.932, abs=5e-4)  # as the paper states


def test_fresh_networks_are_scored_by_both_of_their_measurements() -> None:
    from hwnas.latency_models.observation import Observation
    from tools.evaluate.latency_host.fresh import FIGURES, score_methods, score_repeat, table_row

    space = mobile_space((1, 28, 28), 10)
    networks = [space.architecture(space.random(Random(seed))) for seed in range(10)]
    ms = {network.compute_blocks: 1.0 + number for number, network in enumerate(networks)}
    first = {
        blocks: Observation("network", blocks, network_ms) for blocks, network_ms in ms.items()
    }
    second = {
        blocks: Observation("network", blocks, 1.2 * network_ms)
        for blocks, network_ms in ms.items()
    }
    exact, high = (lambda n: ms[n.compute_blocks]), (lambda n: 1.08 * ms[n.compute_blocks])
    scored = score_methods("sums", [exact, high], networks, first, second)
    row = table_row(scored, 3, scored.figures)
    assert (row["choices"], row["networks"], row["90 % interval"]) == (6, 30, "")
    assert (row["within 5 %"], row["within 10 %"]) == ("50.0%", "100.0%")
    assert (row["RMSPE"], row["RMSPE, other process"]) == ("4.00%", "13.33%")
    repeated = score_repeat(networks, first, second, "again")
    assert repeated.figures[2] == pytest.approx(0.2)
    assert len(repeated.figures) == len(scored.figures) == len(FIGURES)


@pytest.mark.parametrize(("budget", "network"), [(20.0, 1.0), (90.0, 1.0), (60.0, 4.0)])
def test_a_measurement_with_little_time_stays_within_its_budget(
    budget: float, network: float
) -> None:
    from hwnas.latency_models.observation import Observation
    from tests.support.data.synthetic import BLOCKS, COSTS_MS, OVERHEAD_MS, SPACE, isolated
    from tools.evaluate.latency_host import designs

    rng = Random(0)
    pool = [SPACE.architecture(SPACE.random(rng)) for _ in range(30)]
    targets = [SPACE.architecture(SPACE.random(rng)) for _ in range(10)]
    seen = {observation.blocks: observation for observation in isolated(noise=0.01)}
    for drawn in pool:
        ms = OVERHEAD_MS + sum(COSTS_MS[block] for block in drawn.compute_blocks)
        seen[drawn.compute_blocks] = Observation("network", drawn.compute_blocks, ms, 0.01)
    taken = designs.limited(BLOCKS, pool[:8], pool, targets, seen, budget, network, 0)
    assert len({row.blocks for row in taken}) == len(taken) and taken[0].blocks == ()
    nets = sum(row.scope == "network" for row in taken)
    blocks = len(taken) - 1 - nets
    if budget > 80:  # enough for everything
        assert blocks == len(BLOCKS) and nets >= 22
    else:
        assert 0 <= budget - (1 + blocks + network * nets) < network
        assert (blocks > 0) == (network > 1)
    half = designs.half_and_half(BLOCKS, pool, seen, budget, network, 0)
    assert sum(row.scope == "network" for row in half) == min(int(budget / 2 / network), 22)
