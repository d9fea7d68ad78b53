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
    BlockPrior,
    Rows,
    Timed,
    amounts_of,
    fit_prior,
    kernel,
    rows,
    weigh,
)
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.spaces.mobile.space import mobile_space
from tests.support.synthetic import BLOCKS, COSTS_MS, WEIGHTS, alone, costs_ms, networks


def timed(
    blocks: Sequence[Block], costs: dict[str, float] = COSTS_MS, error: float = 0.01
) -> Timed:
    ms = np.array([costs[block.key] for block in blocks])
    return Timed(list(blocks), ms, np.full(len(ms), error))


def prior_rows(prior: BlockPrior, seen: Timed, asked: Sequence[Block]) -> Rows:
    return rows(prior, seen, asked, amounts_of([*seen.blocks, *asked], []))


def test_the_weights_of_a_linear_cost_are_recovered() -> None:
    rng = np.random.default_rng(0)
    amounts = np.exp(rng.standard_normal((60, 4)))
    true = np.array([0.5, 0.0, 2.0, 0.1])
    found = weigh(amounts, amounts @ true)
    np.testing.assert_allclose(found, true, rtol=0.05, atol=0.01)
    np.testing.assert_allclose(amounts @ found, amounts @ true, rtol=0.02)


def test_weights_are_never_negative() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        amounts = rng.random((12, 3))
        # what costs less, the more of the first resource it takes
        found = weigh(amounts, 1.1 - amounts[:, 0])
        assert found.min() >= 0
        assert np.isfinite(found).all()


def test_a_resource_that_no_block_takes_has_no_weight_to_divide_by() -> None:
    amounts = np.column_stack([np.arange(1.0, 6.0), np.zeros(5)])
    found = weigh(amounts, 2 * amounts[:, 0])
    assert found[0] == pytest.approx(2.0, rel=0.01)
    assert found[1] == 0.0


def by_hand(prior: BlockPrior, blocks: Sequence[Block]) -> Floats:
    """The kernel of the module's docstring, pair by pair."""
    coordinates, groups = shapes(blocks)
    parts = resources(blocks) * np.array(prior.weights)
    parts /= parts.sum(axis=1, keepdims=True)
    lengths = prior.shape_lengths[groups]
    whole = np.empty((len(blocks), len(blocks)))
    for i in range(len(blocks)):
        for j in range(len(blocks)):
            far = sqrt(5) * float(np.linalg.norm((coordinates[i] - coordinates[j]) / lengths))
            matern = (1 + far + far**2 / 3) * exp(-far)
            whole[i, j] = prior.shares**2 * float(parts[i] @ parts[j]) + prior.shape**2 * matern
            whole[i, j] += prior.each**2 if i == j else 0.0
    return whole


def test_a_model_of_four_lengths_has_that_of_the_channels_for_hidden_widths() -> None:
    four = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0))
    five = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 2.0))
    own = BlockPrior(tuple(WEIGHTS.tolist()), lengths=(2.0, 1.5, 1.0, 3.0, 0.2))
    amounts = resources(BLOCKS)
    assert (kernel(four, BLOCKS, amounts) == kernel(five, BLOCKS, amounts)).all()
    narrow, wide = Block("mbconv", 16, 16, 3, 1, 1, 28), Block("mbconv", 16, 16, 3, 1, 3, 28)
    pair = [narrow, wide]
    assert shapes(pair)[1].tolist().count(SHAPE_GROUPS.index("hidden")) == 1
    near, far = (kernel(one, pair, resources(pair)) for one in (five, own))
    assert far[0, 1] < near[0, 1] and far[0, 0] == pytest.approx(near[0, 0])


def test_unseen_blocks_are_those_of_conditioning_the_joint_gaussian() -> None:
    prior = BlockPrior(tuple((1.3 * WEIGHTS).tolist()), 0.2, 0.15, 0.05, (2.0, 1.5, 1.0, 3.0, 0.7))
    seen, unseen = timed(BLOCKS[3:11]), BLOCKS[11:16]
    found = prior_rows(prior, seen, unseen)
    joint = by_hand(prior, [*seen.blocks, *unseen])
    joint[:8, :8] += np.diag(seen.error**2)
    # in the other form: the precision of the unseen given the seen is a block of the joint one
    precision = np.linalg.inv(joint)
    covariance = np.linalg.inv(precision[8:, 8:])
    mean_ms = resources([*seen.blocks, *unseen]) @ np.array(prior.weights)
    residual = np.log(seen.ms / mean_ms[:8])
    expected = np.log(mean_ms[8:]) - covariance @ precision[8:, :8] @ residual
    np.testing.assert_allclose(np.log(found.ms), expected, atol=1e-8)
    np.testing.assert_allclose(found.covariance, covariance, atol=1e-8)
    assert np.abs(np.log(found.ms / mean_ms[8:])).max() > 0.1


def test_a_measured_block_keeps_its_measurement_and_is_surer_than_it() -> None:
    seen = timed(BLOCKS[:20], error=0.02)
    prior = fit_prior(seen, amounts_of(seen.blocks, []))
    asked = [BLOCKS[30], BLOCKS[7], BLOCKS[2]]
    found = prior_rows(prior, seen, asked)
    assert found.ms[1:].tolist() == [COSTS_MS[block.key] for block in asked[1:]]
    spread = np.sqrt(np.diag(found.covariance))
    assert spread[1] < 0.02 and spread[2] < 0.02 < spread[0]


def test_blocks_are_predicted_in_any_order() -> None:
    seen = timed(BLOCKS[:20])
    prior = fit_prior(seen, amounts_of(seen.blocks, []))
    asked = list(BLOCKS[15:25])
    there, back = prior_rows(prior, seen, asked), prior_rows(prior, seen, asked[::-1])
    np.testing.assert_allclose(there.ms, back.ms[::-1], rtol=1e-9)
    np.testing.assert_allclose(there.covariance, back.covariance[::-1, ::-1], atol=1e-12)


def test_hidden_blocks_of_a_smooth_cost_are_predicted() -> None:
    costs = costs_ms(own=0.01)
    hidden = BLOCKS[2::5]
    seen = timed([block for block in BLOCKS if block not in hidden], costs)
    found = prior_rows(fit_prior(seen, amounts_of(seen.blocks, [])), seen, hidden)
    errors = found.ms / np.array([costs[block.key] for block in hidden]) - 1
    assert len(hidden) >= 10
    assert np.abs(errors).max() < 0.1
    assert np.median(np.abs(errors)) < 0.03


def test_a_jump_between_kernels_is_learnt_from_blocks_of_each_kernel() -> None:
    """Depthwise 7x7 costs ten times as much as 5x5, as on a runtime without a kernel for it."""
    costs = {
        block.key: ms * (10 if block.kernel_size == 7 else 1)
        for block, ms in zip(BLOCKS, costs_ms(own=0.01).values(), strict=True)
    }
    hidden = [block for block in BLOCKS if block.kernel_size == 7][::3]
    seen = timed([block for block in BLOCKS if block not in hidden], costs)
    found = prior_rows(fit_prior(seen, amounts_of(seen.blocks, [])), seen, hidden)
    errors = found.ms / np.array([costs[block.key] for block in hidden]) - 1
    assert np.abs(errors).max() < 0.2


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_wild_timing_is_told_and_widened_but_not_dropped(factor: float) -> None:
    wild = BLOCKS[20].key
    seen = timed(BLOCKS, {**COSTS_MS, wild: factor * COSTS_MS[wild]})
    prior = fit_prior(seen, amounts_of(seen.blocks, []))
    assert prior.wild == (wild,)
    found = prior_rows(prior, seen, BLOCKS)
    assert found.ms[20] == factor * COSTS_MS[wild]
    spread = np.sqrt(np.diag(found.covariance))
    assert spread[20] > 0.7 * abs(log(factor))
    assert np.delete(spread, 20).max() < 0.05


def test_without_wild_timings_none_is_told() -> None:
    seen = timed(BLOCKS)
    assert fit_prior(seen, amounts_of(seen.blocks, [])).wild == ()


def test_networks_overrule_a_wild_timing() -> None:
    wild, number = BLOCKS[20].key, 21
    observed = alone(noise=0.01)
    assert observed[number].keys == (wild,)
    observed[number] = msgspec.structs.replace(observed[number], ms=3 * observed[number].ms)
    model = fit_model("d", [*observed, *networks(40, 0, 0.01)], source="s", validate=False)
    assert wild in model.prior.wild
    assert any(wild in one.keys for one in model.networks)
    assert model.rows_ms[wild] == pytest.approx(COSTS_MS[wild], rel=0.25)


def test_two_timed_blocks_are_enough_for_a_prior() -> None:
    seen = timed([BLOCKS[3], BLOCKS[40]])
    prior = fit_prior(seen, amounts_of(seen.blocks, []))
    found = prior_rows(prior, seen, BLOCKS)
    assert (found.ms > 0).all()
    assert len(prior.weights) == len(RESOURCES)


def test_nothing_timed_leaves_what_the_weights_say() -> None:
    prior = BlockPrior(tuple(WEIGHTS.tolist()))
    found = prior_rows(prior, Timed([], np.zeros(0), np.zeros(0)), BLOCKS[:5])
    np.testing.assert_allclose(found.ms, resources(BLOCKS[:5]) @ WEIGHTS)
    assert not found.covariance.any()


def test_the_resources_of_a_block_have_its_macs() -> None:
    wide = mobile_space((3, 224, 224), 1000)
    blocks = [*BLOCKS, *wide.fixed, *(row[-2] for row in wide.blocks)]
    gated = [msgspec.structs.replace(b, squeeze_excite=True) for b in blocks if b.op == "mbconv"]
    place = [RESOURCES.index(name) for name in RESOURCES if name.endswith("macs")]
    found = 1e6 * resources([*blocks, *gated])[:, place].sum(axis=1)
    np.testing.assert_allclose(found, [block.macs for block in [*blocks, *gated]], rtol=1e-9)


def test_a_skip_takes_nothing() -> None:
    assert not resources([Block("identity", 8, 8, 1, 1, 1, 4)]).any()


def test_values_that_no_known_block_has_are_named() -> None:
    known = [block for block in BLOCKS if block.kernel_size != 7]
    assert unsupported(BLOCKS, known) == ["mbconv kernel 7"]
    assert unsupported(BLOCKS, BLOCKS) == []
    gated = msgspec.structs.replace(BLOCKS[-1], squeeze_excite=True, activation="hswish")
    assert unsupported([gated], BLOCKS) == ["squeeze-excite", "h-swish"]
    assert unsupported([Block("identity", 8, 8, 1, 1, 1, 4)], []) == []
