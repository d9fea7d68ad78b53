"""The block prior against plain conditioning and against devices whose costs are known."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import msgspec
import numpy as np
import pytest

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import (
    RESOURCES,
    SHAPE_GROUPS,
    Floats,
    resources,
    shapes,
    unsupported,
)
from hwnas.latency_models.fitting.block_prior import (
    BlockCosts,
    BlockPrior,
    TimedBlocks,
    cost_regressors,
    fit_nnls,
    fit_prior,
    posterior_costs,
    prior_covariance,
)
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.spaces.mobile.space import mobile_space
from tests.support.data.synthetic import BLOCKS, COSTS_MS, WEIGHTS, costs_ms, isolated, networks


def timed(
    blocks: Sequence[Block], costs: dict[Block, float] = COSTS_MS, error: float = 0.01
) -> TimedBlocks:
    ms = np.array([costs[block] for block in blocks])
    return TimedBlocks(list(blocks), ms, np.full(len(ms), error))


def costs_given(prior: BlockPrior, seen: TimedBlocks, blocks: Sequence[Block]) -> BlockCosts:
    return posterior_costs(prior, seen, blocks, cost_regressors([*seen.blocks, *blocks], []))


def test_the_weights_of_a_linear_cost_are_recovered() -> None:
    rng = np.random.default_rng(0)
    regressors = np.exp(rng.standard_normal((60, 4)))
    true = np.array([0.5, 0.0, 2.0, 0.1])
    weights = fit_nnls(regressors, regressors @ true)
    np.testing.assert_allclose(weights, true, rtol=0.05, atol=0.01)
    np.testing.assert_allclose(regressors @ weights, regressors @ true, rtol=0.02)


def test_weights_are_never_negative() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        regressors = rng.random((12, 3))
        # costs that fall with the first resource
        weights = fit_nnls(regressors, 1.1 - regressors[:, 0])
        assert weights.min() >= 0
        assert np.isfinite(weights).all()


def test_a_resource_that_no_block_takes_has_weight_zero() -> None:
    regressors = np.column_stack([np.arange(1.0, 6.0), np.zeros(5)])
    weights = fit_nnls(regressors, 2 * regressors[:, 0])
    assert weights[0] == pytest.approx(2.0, rel=0.01)
    assert weights[1] == 0.0


def by_hand(prior: BlockPrior, blocks: Sequence[Block]) -> Floats:
    """The covariance of the module's docstring, pair by pair."""
    coordinates, groups = shapes(blocks)
    parts = resources(blocks) * np.array(prior.weights)
    parts /= parts.sum(axis=1, keepdims=True)
    lengths = np.array(prior.lengths)[groups]
    whole = np.empty((len(blocks), len(blocks)))
    for i in range(len(blocks)):
        for j in range(len(blocks)):
            far = sqrt(5) * float(np.linalg.norm((coordinates[i] - coordinates[j]) / lengths))
            matern = (1 + far + far**2 / 3) * exp(-far)
            whole[i, j] = prior.shares**2 * float(parts[i] @ parts[j]) + prior.shape**2 * matern
            whole[i, j] += prior.each**2 if i == j else 0.0
    return whole


def test_hidden_widths_have_a_length_scale_of_their_own() -> None:
    long = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 2.0))
    short = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 0.2))
    narrow, wide = Block("mbconv", 16, 16, 3, 1, 1, 28), Block("mbconv", 16, 16, 3, 1, 3, 28)
    pair = [narrow, wide]
    assert shapes(pair)[1].tolist().count(SHAPE_GROUPS.index("hidden")) == 1
    near, far = (prior_covariance(prior, pair, resources(pair)) for prior in (long, short))
    assert far[0, 1] < near[0, 1] and far[0, 0] == pytest.approx(near[0, 0])


def test_unseen_blocks_are_those_of_conditioning_the_joint_gaussian() -> None:
    prior = BlockPrior(tuple((1.3 * WEIGHTS).tolist()), 0.2, 0.15, 0.05, (2.0, 1.5, 1.0, 3.0, 0.7))
    seen, unseen = timed(BLOCKS[3:11]), BLOCKS[11:16]
    costs = costs_given(prior, seen, unseen)
    joint = by_hand(prior, [*seen.blocks, *unseen])
    joint[:8, :8] += np.diag(seen.relative_error**2)
    # in the other form: the precision of unseen given seen blocks is a part of the joint one
    precision = np.linalg.inv(joint)
    covariance = np.linalg.inv(precision[8:, 8:])
    mean_ms = resources([*seen.blocks, *unseen]) @ np.array(prior.weights)
    residual = np.log(seen.ms / mean_ms[:8])
    expected = np.log(mean_ms[8:]) - covariance @ precision[8:, :8] @ residual
    np.testing.assert_allclose(np.log(costs.ms), expected, atol=1e-8)
    np.testing.assert_allclose(costs.covariance, covariance, atol=1e-8)
    assert np.abs(np.log(costs.ms / mean_ms[8:])).max() > 0.1


def test_a_timed_block_keeps_its_time_and_gains_precision() -> None:
    seen = timed(BLOCKS[:20], error=0.02)
    prior = fit_prior(seen, cost_regressors(seen.blocks, []))
    blocks = [BLOCKS[30], BLOCKS[7], BLOCKS[2]]
    costs = costs_given(prior, seen, blocks)
    assert costs.ms[1:].tolist() == [COSTS_MS[block] for block in blocks[1:]]
    spread = np.sqrt(np.diag(costs.covariance))
    assert spread[1] < 0.02 and spread[2] < 0.02 < spread[0]


def test_blocks_are_predicted_in_any_order() -> None:
    seen = timed(BLOCKS[:20])
    prior = fit_prior(seen, cost_regressors(seen.blocks, []))
    blocks = list(BLOCKS[15:25])
    there, back = costs_given(prior, seen, blocks), costs_given(prior, seen, blocks[::-1])
    np.testing.assert_allclose(there.ms, back.ms[::-1], rtol=1e-9)
    np.testing.assert_allclose(there.covariance, back.covariance[::-1, ::-1], atol=1e-12)


def test_hidden_blocks_of_a_smooth_cost_are_predicted() -> None:
    costs = costs_ms(own=0.01)
    hidden = BLOCKS[2::5]
    seen = timed([block for block in BLOCKS if block not in hidden], costs)
    predicted = costs_given(fit_prior(seen, cost_regressors(seen.blocks, [])), seen, hidden)
    errors = predicted.ms / np.array([costs[block] for block in hidden]) - 1
    assert len(hidden) >= 10
    assert np.abs(errors).max() < 0.1
    assert np.median(np.abs(errors)) < 0.03


def test_a_jump_between_kernels_is_learnt_from_blocks_of_each_kernel() -> None:
    """Depthwise 7x7 costs ten times as much as 5x5, as on a runtime without a kernel for it."""
    costs = {
        block: ms * (10 if block.kernel_size == 7 else 1)
        for block, ms in zip(BLOCKS, costs_ms(own=0.01).values(), strict=True)
    }
    hidden = [block for block in BLOCKS if block.kernel_size == 7][::3]
    seen = timed([block for block in BLOCKS if block not in hidden], costs)
    predicted = costs_given(fit_prior(seen, cost_regressors(seen.blocks, [])), seen, hidden)
    errors = predicted.ms / np.array([costs[block] for block in hidden]) - 1
    assert np.abs(errors).max() < 0.2


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_an_outlying_timing_is_named_and_widened_but_not_dropped(factor: float) -> None:
    outlier = BLOCKS[20]
    seen = timed(BLOCKS, {**COSTS_MS, outlier: factor * COSTS_MS[outlier]})
    prior = fit_prior(seen, cost_regressors(seen.blocks, []))
    assert prior.outliers == (outlier.key,)
    costs = costs_given(prior, seen, BLOCKS)
    assert costs.ms[20] == factor * COSTS_MS[outlier]
    spread = np.sqrt(np.diag(costs.covariance))
    assert spread[20] > 0.7 * abs(log(factor))
    assert np.delete(spread, 20).max() < 0.05


def test_timings_that_agree_have_no_outlier() -> None:
    seen = timed(BLOCKS)
    assert fit_prior(seen, cost_regressors(seen.blocks, [])).outliers == ()


def test_networks_overrule_an_outlying_timing() -> None:
    outlier, number = BLOCKS[20], 21
    observed = isolated(noise=0.01)
    assert observed[number].blocks == (outlier,)
    observed[number] = msgspec.structs.replace(observed[number], ms=3 * observed[number].ms)
    model = fit_model("d", [*observed, *networks(40, 0, 0.01)], source="s", validate=False)
    assert outlier.key in model.prior.outliers
    assert any(outlier in network.blocks for network in model.networks)
    assert model.rows_ms[outlier] == pytest.approx(COSTS_MS[outlier], rel=0.25)


def test_two_timed_blocks_are_enough_for_a_prior() -> None:
    seen = timed([BLOCKS[3], BLOCKS[40]])
    prior = fit_prior(seen, cost_regressors(seen.blocks, []))
    costs = costs_given(prior, seen, BLOCKS)
    assert (costs.ms > 0).all()
    assert len(prior.weights) == len(RESOURCES)


def test_without_timings_costs_are_the_weighted_resources() -> None:
    prior = BlockPrior(tuple(WEIGHTS.tolist()))
    costs = costs_given(prior, TimedBlocks([], np.zeros(0), np.zeros(0)), BLOCKS[:5])
    np.testing.assert_allclose(costs.ms, resources(BLOCKS[:5]) @ WEIGHTS)
    assert not costs.covariance.any()


def test_the_resources_of_a_block_have_its_macs() -> None:
    wide = mobile_space((3, 224, 224), 1000)
    blocks = [*BLOCKS, *wide.fixed, *(row[-2] for row in wide.blocks)]
    gated = [msgspec.structs.replace(b, squeeze_excite=True) for b in blocks if b.op == "mbconv"]
    place = [RESOURCES.index(name) for name in RESOURCES if name.endswith("macs")]
    macs = 1e6 * resources([*blocks, *gated])[:, place].sum(axis=1)
    np.testing.assert_allclose(macs, [block.macs for block in [*blocks, *gated]], rtol=1e-9)


def test_a_skip_uses_no_resources() -> None:
    assert not resources([Block("identity", 8, 8, 1, 1, 1, 4)]).any()


def test_kinds_that_no_known_block_has_are_named() -> None:
    known = [block for block in BLOCKS if block.kernel_size != 7]
    assert unsupported(BLOCKS, known) == ["mbconv kernel 7"]
    assert unsupported(BLOCKS, BLOCKS) == []
    gated = msgspec.structs.replace(BLOCKS[-1], squeeze_excite=True, activation="hswish")
    assert unsupported([gated], BLOCKS) == ["squeeze-excite", "h-swish"]
    smooth = msgspec.structs.replace(BLOCKS[-1], activation="silu")
    assert unsupported([smooth], [*BLOCKS, gated]) == ["SiLU"]
    assert unsupported([Block("identity", 8, 8, 1, 1, 1, 4)], []) == []
