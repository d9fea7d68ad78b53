"""The latency model: linear, exact as a cost table, and the same when it was saved and loaded."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UnknownName
from hwnas.latency_models.fitting.fit import fit_model, update_model
from hwnas.latency_models.model import MIN_RELATIVE_STD, LatencyModel, Predictions
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.model_file import SCHEMA, decode_model, encode_model
from tests.support.data.synthetic import (
    BLOCKS,
    CALL_MS,
    COSTS_MS,
    OVERHEAD_MS,
    SPACE,
    isolated,
    networks,
)

Networks = list[tuple[Block, ...]]


@pytest.fixture(scope="module")
def model() -> LatencyModel:
    """Blocks alone, 20 networks, and two later sessions of five."""
    model = fitted([*isolated(noise=0.01), *networks(20, 0, 0.01)])
    slower = [msgspec.structs.replace(seen, ms=1.05 * seen.ms) for seen in networks(5, 1, 0.01)]
    return update_model(update_model(model, slower), networks(5, 2, 0.01))


@pytest.fixture(scope="module")
def partial() -> LatencyModel:
    """As `model`, of every other block: the rest are predicted."""
    return fitted([*isolated(noise=0.01)[::2], *networks(10, 0, 0.01)[:3]])


def fitted(observed: Sequence[Observation], **changes: Any) -> LatencyModel:
    return fit_model("phone", observed, source="a test", validate=False, **changes)


def random_networks(count: int, seed: int = 7) -> Networks:
    rng = Random(seed)
    return [SPACE.architecture(SPACE.random(rng)).blocks for _ in range(count)]


def test_a_prediction_is_linear_in_the_counts_of_blocks(model: LatencyModel) -> None:
    first, second = random_networks(2)
    both, twice, none = (*first, *second), (*first, *first), ()
    ms = model.predict([first, second, both, twice, none]).mean_ms - model.overhead_ms
    assert ms[2] == pytest.approx(ms[0] + ms[1], rel=1e-9)
    assert ms[3] == pytest.approx(2 * ms[0], rel=1e-9)
    assert ms[4] == pytest.approx(0.0, abs=1e-12)
    assert model.network_ms(both) - model.overhead_ms == pytest.approx(ms[2], rel=1e-9)


def test_the_order_of_blocks_and_skips_do_not_matter(model: LatencyModel) -> None:
    network = random_networks(1)[0]
    skip = Block("identity", 16, 16, 1, 1, 1, 14)
    predicted = model.predict([network, network[::-1], (skip, *network, skip)])
    np.testing.assert_allclose(predicted.mean_ms, predicted.mean_ms[0], rtol=1e-12)
    np.testing.assert_allclose(predicted.std_ms, predicted.std_ms[0], rtol=1e-9)


@pytest.mark.parametrize("which", ["model", "partial"])
def test_the_cost_table_is_exact_for_every_network(
    which: str, request: pytest.FixtureRequest
) -> None:
    model: LatencyModel = request.getfixturevalue(which)
    costs, rng = model.cost_table(SPACE), Random(3)
    genotypes = [SPACE.random(rng) for _ in range(30)]
    nets = [SPACE.architecture(genotype).blocks for genotype in genotypes]
    expected = [costs.network_ms(genotype.choices) for genotype in genotypes]
    np.testing.assert_allclose(model.predict(nets).mean_ms, expected, rtol=1e-9)
    np.testing.assert_allclose([model.network_ms(net) for net in nets], expected, rtol=1e-9)
    assert min(min(row) for row in costs.mean_ms) == 0.0


def test_what_is_asked_together_does_not_change_an_answer(partial: LatencyModel) -> None:
    nets = random_networks(6)
    together = partial.predict(nets)
    for number, net in enumerate(nets):
        single = partial.predict([net])
        assert single.mean_ms[0] == pytest.approx(together.mean_ms[number], rel=1e-9)
        assert single.std_ms[0] == pytest.approx(together.std_ms[number], rel=1e-6)
        assert partial.std_ms(net) == pytest.approx(together.std_ms[number], rel=1e-6)


def test_a_known_table_is_recovered_from_blocks_alone_and_networks() -> None:
    model = fitted([*isolated(), *networks(40, 0)])
    ratios = np.array([model.rows_ms[block] / ms for block, ms in COSTS_MS.items()])
    assert np.median(np.abs(ratios - 1)) < 0.02
    assert np.abs(ratios - 1).max() < 0.1
    fresh = networks(30, 1)
    predicted = model.predict([seen.blocks for seen in fresh]).mean_ms
    np.testing.assert_allclose(predicted, [seen.ms for seen in fresh], rtol=0.01)
    assert model.null_ms == CALL_MS
    assert 0 < model.overhead_ms < 3 * OVERHEAD_MS


def test_the_runtimes_call_is_not_counted_for_every_block() -> None:
    model = fitted(isolated())
    for network in random_networks(3):
        blocks = [block for block in network if not block.is_free]
        with_calls = sum(model.isolated_ms()[block] for block in blocks)
        expected = with_calls - (len(blocks) - 1) * CALL_MS
        assert model.network_ms(network) == pytest.approx(expected, rel=1e-6)


def test_a_kernel_that_was_never_observed_is_flagged_and_refused() -> None:
    sevens = {block for block in BLOCKS if block.kernel_size == 7}
    observed = [seen for seen in [*isolated(), *networks(60, 0)] if not sevens & set(seen.blocks)]
    model = fitted(observed)
    unknown = next(block for block in BLOCKS if block.kernel_size == 7)
    known = next(block for block in BLOCKS if block.kernel_size == 5)
    assert model.unsupported([known]) == []
    assert model.unsupported([known, unknown, unknown]) == ["mbconv kernel 7"]
    message = rf"mbconv kernel 7 was never measured there.* named '{unknown.key}'"
    for ask in (model.block_ms, lambda block: model.network_ms([known, block])):
        with pytest.raises(UnknownName, match=message):
            ask(unknown)
    with pytest.raises(UnknownName, match="mbconv kernel 7 was never measured there"):
        model.cost_table(SPACE)
    assert model.predict([[unknown]]).mean_ms[0] > 0


def test_a_block_of_known_kind_is_predicted_and_less_sure() -> None:
    hidden = set(BLOCKS[4::6])
    model = fitted([seen for seen in isolated() if not hidden & set(seen.blocks)])
    for block in hidden:
        assert block not in model.rows_ms
        assert model.block_ms(block) * 0.85 == pytest.approx(COSTS_MS[block], rel=0.2)
        variance = model.posterior_over([block, BLOCKS[0]]).covariance.diagonal()
        ms = np.array([model.block_ms(block), model.block_ms(BLOCKS[0])])
        relative = np.sqrt(variance[:2]) / ms
        assert relative[0] > relative[1]


def test_a_block_is_the_same_whether_its_expansion_has_six_digits_or_more() -> None:
    exact = msgspec.structs.replace(BLOCKS[2], expand_ratio=7 / 3)
    costs = {**COSTS_MS, exact: 0.123}
    model = fitted(isolated(costs))
    assert exact == Block.from_key(exact.key)
    assert model.block_ms(exact) == model.rows_ms[exact]
    assert model.predict([[exact]]).mean_ms[0] == pytest.approx(model.network_ms([exact]), rel=1e-9)


def test_a_model_survives_its_file(model: LatencyModel) -> None:
    again = decode_model(encode_model(model), "phone.json")
    assert again == model
    nets = random_networks(10)
    there, back = model.predict(nets), again.predict(nets)
    assert there.mean_ms.tolist() == back.mean_ms.tolist()
    assert there.std_ms.tolist() == back.std_ms.tolist()
    assert again.cost_table(SPACE) == model.cost_table(SPACE)


def test_whole_milliseconds_and_another_layout_survive_the_file() -> None:
    rows = [Observation("in_network", (block,), number) for number, block in enumerate(BLOCKS, 1)]
    model = fitted(rows, kind="table")
    text = msgspec.json.format(encode_model(model), indent=4)
    assert decode_model(text, "phone.json") == model


def test_adapted_models_survive_with_their_sources(model: LatencyModel) -> None:
    slower = [msgspec.structs.replace(seen, ms=3 * seen.ms) for seen in networks(6, 3, 0.01)]
    adapted = fitted(slower, kind="adapted", sources=(model,))
    again = decode_model(encode_model(adapted), "phone.json")
    assert again == adapted
    fresh = networks(20, 4)
    predicted = again.predict([seen.blocks for seen in fresh]).mean_ms
    np.testing.assert_allclose(predicted, [3 * seen.ms for seen in fresh], rtol=0.08)


@pytest.mark.parametrize("field", ["rows_ms", "overhead_ms", "observations", "held_out", "source"])
def test_a_file_that_was_edited_by_hand_is_refused_and_named(
    model: LatencyModel, field: str
) -> None:
    content = msgspec.json.decode(encode_model(model))
    key = BLOCKS[0].key
    edited = {
        "rows_ms": {**content["rows_ms"], key: content["rows_ms"][key] + 1e-6},
        "overhead_ms": content["overhead_ms"] * 1.001,
        "observations": content["observations"][1:],
        "held_out": msgspec.to_builtins({
            "networks": 60, "within_5": 1.0, "within_10": 1.0, "rmspe": 0.0, "spearman": 1.0,
            "folds": 6,
        }),
        "source": "a better test",
    }  # fmt: skip
    text = msgspec.json.encode({**content, field: edited[field]})
    with pytest.raises(InvalidFile, match=r"^phone\.json: its numbers do not match its sha256"):
        decode_model(text, "phone.json")


@pytest.mark.parametrize("schema", [1, SCHEMA + 1])
def test_a_file_of_another_version_says_which_command_makes_a_new_one(schema: int) -> None:
    text = msgspec.json.encode({"schema": schema, "rows_ms": {"what it had then": 1}})
    message = (
        rf"^phone\.json: has schema {schema}, this version reads schema {SCHEMA}.*`hwnas latency"
    )
    with pytest.raises(InvalidFile, match=message):
        decode_model(text, "phone.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows_ms": {"a": "fast"}}, r"Expected `float`, got `str` - at `\$\.rows_ms"),
        ({"overhead": 1.0}, "unknown field `overhead`"),
        ({"kind": "guessed"}, r"Invalid enum value 'guessed' - at `\$\.kind`"),
        ({"held_out": {"networks": 6}}, r"missing required field `within_5` - at `\$\.held_out`"),
    ],
)
def test_a_wrong_field_is_named(model: LatencyModel, changes: dict[str, Any], message: str) -> None:
    content = msgspec.json.decode(encode_model(model))
    with pytest.raises(InvalidFile, match=r"^phone\.json: .*" + message):
        decode_model(msgspec.json.encode({**content, **changes}), "phone.json")


def test_a_file_that_is_no_model_is_named() -> None:
    for content in (b"", b"\xff\xfe", b"{", b"[]", b"{}", b"null"):
        with pytest.raises(InvalidFile, match=r"^phone\.json: "):
            decode_model(content, "phone.json")


def test_a_saved_model_predicts_without_fitting_anything(
    model: LatencyModel, partial: LatencyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise AssertionError("something is fitted")

    for name in ("minimize", "nnls", "lsq_linear", "least_squares"):
        monkeypatch.setattr(f"scipy.optimize.{name}", refused)
    with pytest.raises(AssertionError, match="something is fitted"):
        fitted(isolated()[:5])
    for text in map(encode_model, (model, partial)):
        again = decode_model(text, "phone.json")
        again.cost_table(SPACE)
        again.predict(random_networks(3))
        again.unsupported(BLOCKS)


def test_the_digest_names_the_numbers_and_not_their_order_or_date(model: LatencyModel) -> None:
    other = msgspec.structs.replace(
        model, made="2027-01-01", rows_ms=dict(reversed(model.rows_ms.items())), device="watch"
    )
    assert other.digest == model.digest and len(model.digest) == 16
    changed = model.overhead_ms + 1e-9
    assert msgspec.structs.replace(model, overhead_ms=changed).digest != model.digest
    rows = {**model.rows_ms, BLOCKS[0]: 2.6}
    assert msgspec.structs.replace(model, rows_ms=rows).digest != model.digest


def test_the_hash_of_a_file_changes_with_any_field(model: LatencyModel) -> None:
    other = msgspec.structs.replace(model, made="2027")
    hashes = [msgspec.json.decode(encode_model(item))["sha256"] for item in (model, model, other)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_key_that_names_no_block_is_refused_with_the_file(model: LatencyModel) -> None:
    wrong = msgspec.structs.replace(BLOCKS[0], op="a fast block")
    text = encode_model(msgspec.structs.replace(model, rows_ms={wrong: 1.0}))
    with pytest.raises(InvalidFile, match=r"^phone\.json: 'a fast block k.* is not a block key"):
        decode_model(text, "phone.json")


def test_bounds_are_those_of_the_normal_distribution() -> None:
    predictions = Predictions(np.array([10.0, 1.0]), np.array([1.0, 2.0]))
    low, high = predictions.interval_ms(0.9)
    np.testing.assert_allclose(low, [10 - 1.6448536, 0.0], atol=1e-6)
    np.testing.assert_allclose(high, [10 + 1.6448536, 1 + 2 * 1.6448536], atol=1e-6)
    np.testing.assert_allclose(
        predictions.bound_ms(0.9), [10 + 1.2815516, 1 + 2.5631031], atol=1e-6
    )


def test_no_prediction_claims_less_than_measuring_again_differs_by() -> None:
    model = fitted([*isolated(), *networks(60, 0)])
    predicted = model.predict(random_networks(10))
    assert (predicted.std_ms >= MIN_RELATIVE_STD * predicted.mean_ms * (1 - 1e-12)).all()


def test_the_spread_of_a_prediction_has_the_noise_of_a_measurement() -> None:
    steady, shaky = (fitted([*isolated(), *networks(20, 0, noise)]) for noise in (0.01, 0.06))
    nets = random_networks(10)
    relative = [(p := model.predict(nets)).std_ms / p.mean_ms for model in (steady, shaky)]
    assert (relative[1] >= 0.06).all()
    assert (relative[0] < 0.04).all()
