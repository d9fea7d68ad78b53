"""The choice of the next measurement, compared with the uncertainty that remains after each
candidate."""

from __future__ import annotations

from random import Random

import msgspec
import numpy as np
import pytest

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import shapes, unsupported
from hwnas.latency_models.fitting.active_learning import (
    median_half_width,
    select_initial_blocks,
    select_measurements,
    select_networks,
)
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.covariance_terms import TERMS
from hwnas.latency_models.fitting.design_matrix import block_grid
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.fitting.gaussian import matern52
from hwnas.latency_models.fitting.network_correction import Correction
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from tests.support.data.synthetic import BLOCKS, SPACE, isolated, networks

NOISE = 0.01
"""Relative error expected of every measurement."""
TIMED = 20

Network = tuple[Block, ...]


def drawn(count: int, seed: int) -> list[Network]:
    rng = Random(seed)
    return [SPACE.architecture(SPACE.random(rng)).blocks for _ in range(count)]


def plain(correction: Correction) -> Correction:
    """Return the correction with a single draw, and without the noise of whole networks."""
    weights = np.array(correction.weights)
    means = {name: float(weights @ np.array(draws)) for name, draws in correction.scales.items()}
    scales = {name: (0.0 if TERMS[name].is_noise else mean,) for name, mean in means.items()}
    return msgspec.structs.replace(correction, scales=scales, weights=(1.0,))


@pytest.fixture(scope="module")
def known() -> LatencyModel:
    """A model fitted to some blocks and six networks."""
    observed = [*isolated(noise=NOISE)[: 1 + TIMED], *networks(6, seed=0, noise=NOISE)]
    model = fit_model("here", observed, source="test", validate=False)
    assert model.correction is not None
    return msgspec.structs.replace(model, correction=plain(model.correction))


def with_measurement(model: LatencyModel, blocks: Network, network: bool) -> LatencyModel:
    """Add a measurement that equals the prediction: only the uncertainty changes."""
    null_ms = model.null_ms
    assert null_ms is not None
    if network:
        mean_ms = float(model.predict([blocks]).mean_ms[0])
        computing = tuple(block for block in blocks if not block.is_free)
        added = Observation("network", computing, mean_ms, NOISE)
    else:
        # an isolated block takes its prior cost; the error is that of the time less the call
        grid = block_grid(model.observations, model.prior, (), blocks)
        ms = float(grid.costs.ms[grid.blocks.index(blocks[0])])
        added = Observation("isolated", (blocks[0],), ms + null_ms, NOISE * ms / (ms + null_ms))
    observations = (*model.observations, added)
    return msgspec.structs.replace(model, observations=observations, rows_ms={})


def mean_variance(model: LatencyModel, targets: list[Network], before: LatencyModel) -> float:
    """Return the mean of the targets' variances, relative to the predictions of ``before``."""
    blocks = list(dict.fromkeys(block for network in targets for block in network))
    blocks = [block for block in blocks if block.op != "identity"]
    costs = model.posterior_over(blocks)
    counts = np.array([[net.count(block) for block in blocks] + [1] for net in targets], float)
    means = before.predict(targets).mean_ms
    return float(np.mean(np.diag(counts @ costs.covariance @ counts.T) / means**2))


def test_the_choice_leaves_the_least_uncertainty(known: LatencyModel) -> None:
    fresh, pool, targets = list(BLOCKS[TIMED::4]), drawn(6, seed=1), drawn(12, seed=2)
    after = [
        *(
            mean_variance(with_measurement(known, (block,), network=False), targets, known)
            for block in fresh
        ),
        *(
            mean_variance(with_measurement(known, network, network=True), targets, known)
            for network in pool
        ),
    ]
    assert max(after) < mean_variance(known, targets, known)
    assert select_measurements(known, fresh, pool, targets, 1) == [int(np.argmin(after))]
    # each kind by itself, too, so that both are compared with something
    [block] = select_measurements(known, fresh, (), targets, 1)
    [network] = select_networks(known, pool, targets, 1)
    assert block == int(np.argmin(after[: len(fresh)]))
    assert network == int(np.argmin(after[len(fresh) :]))


def test_the_second_choice_is_made_given_the_first(known: LatencyModel) -> None:
    fresh, targets = list(BLOCKS[TIMED::4]), drawn(12, seed=2)
    first, second = select_measurements(known, fresh, (), targets, 2)
    then = with_measurement(known, (fresh[first],), network=False)
    after = [
        mean_variance(with_measurement(then, (block,), network=False), targets, known)
        if place != first
        else np.inf
        for place, block in enumerate(fresh)
    ]
    assert second == int(np.argmin(after))


def test_a_kernel_never_measured_comes_first() -> None:
    """Where all blocks are timed, none is timed again."""
    targets = drawn(12, seed=2)
    without, timed = (
        [seen for seen in observed if all(block.kernel_size != 7 for block in seen.blocks)]
        for observed in (networks(60, seed=0, noise=NOISE), isolated(noise=NOISE))
    )
    model = fit_model("here", [*timed, *without], source="test", validate=False)
    pool = [network.blocks for network in without]
    chosen = select_measurements(model, BLOCKS, pool, targets, 2)
    assert {BLOCKS[place].kernel_size for place in chosen} == {7}  # IndexError for a network
    model = fit_model("here", isolated(noise=NOISE), source="test", validate=False)
    assert min(select_measurements(model, BLOCKS, drawn(12, seed=1), targets, 3)) >= len(BLOCKS)


def test_fewer_candidates_than_requested_are_all_chosen(known: LatencyModel) -> None:
    chosen = select_measurements(known, BLOCKS[-2:], drawn(2, seed=1), drawn(3, seed=2), 9)
    assert sorted(chosen) == [0, 1, 2, 3]


def test_a_covering_design_has_every_kind_and_no_block_twice() -> None:
    places = select_initial_blocks(BLOCKS, 15)
    assert len(places) == len(set(places)) >= 15
    chosen = [BLOCKS[place] for place in places]
    assert unsupported(BLOCKS, chosen) == []
    kinds = select_initial_blocks(BLOCKS, 0)
    assert unsupported(BLOCKS, [BLOCKS[place] for place in kinds]) == []
    assert places[: len(kinds)] == kinds and len(kinds) < len(places)
    assert sorted(select_initial_blocks(BLOCKS[:4], 15)) == [0, 1, 2, 3]


def test_a_covering_design_leaves_less_unknown_than_any_random_one() -> None:
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(len(BLOCKS))[:15].tolist() for _ in range(30)]
    assert unknown(select_initial_blocks(BLOCKS, 15)) < 0.9 * min(map(unknown, drawn))


def unknown(places: list[int]) -> float:
    """Return the total variance of all blocks given the times of these, by plain conditioning."""
    prior = BlockPrior(())
    points, groups = shapes(BLOCKS)
    like, _ = matern52(points, points, np.array(prior.lengths), groups)
    whole = prior.shape**2 * like + prior.each**2 * np.eye(len(BLOCKS))
    seen = whole[np.ix_(places, places)] + 1e-4 * np.eye(len(places))
    return float(np.trace(whole - whole[:, places] @ np.linalg.solve(seen, whole[places])))


def test_slow_measurements_are_chosen_for_a_large_gain_only(known: LatencyModel) -> None:
    fresh, pool, targets = list(BLOCKS[TIMED::4]), drawn(6, seed=1), drawn(12, seed=2)
    cheap = [1.0] * len(fresh) + [1e3] * len(pool)
    assert max(select_measurements(known, fresh, pool, targets, 4, cheap)) < len(fresh)
    dear = [1e3] * len(fresh) + [1.0] * len(pool)
    assert min(select_measurements(known, fresh, pool, targets, 4, dear)) >= len(fresh)


def test_an_interval_narrows_with_every_network(known: LatencyModel) -> None:
    targets, pool = drawn(12, seed=2), drawn(6, seed=1)
    widths, model = [median_half_width(known, targets)], known
    for place in select_networks(known, pool, targets, 3):
        model = with_measurement(model, pool[place], network=True)
        widths.append(median_half_width(model, targets))
    assert widths == sorted(widths, reverse=True) and widths[-1] < widths[0]
