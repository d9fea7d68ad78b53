"""Several precisions, resolutions and widths: which runs they are, and which is chosen."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from hwnas.architecture.architecture import Block
from hwnas.cli.main import cli
from hwnas.data.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.search.knapsack import window_knapsack
from hwnas.spaces.mobile.space import MobileSpace, scaled
from hwnas.specialize.pairs import Outcome, choose, pairs_of
from hwnas.specialize.run_folder import Config
from hwnas.specialize.setup.plan import load_images, load_space
from tests.support.sample_run import make_small, write_images
from tests.support.tiny import tiny_space

CONFIG = Config(target="simulated-phone", data="fashion-mnist-6k")


def asked(**changes: str) -> list[tuple[str, str]]:
    config = msgspec.structs.replace(CONFIG, **changes)
    return [(one.config.precision, one.config.resolution) for one in pairs_of(config, Path("run"))]


def test_auto_is_both_precisions() -> None:
    assert asked(precision="auto") == asked(precision="fp32,int8") == [("fp32", ""), ("int8", "")]


def test_every_precision_is_searched_at_every_resolution() -> None:
    found = asked(precision="fp32, int8", resolution="24,28")
    assert found == [("fp32", "24"), ("fp32", "28"), ("int8", "24"), ("int8", "28")]


def test_every_width_is_searched_at_every_resolution() -> None:
    config = msgspec.structs.replace(CONFIG, resolution="24,28", width_mult="0.5, 1")
    found = pairs_of(config, Path("run"))
    assert [(one.config.resolution, one.config.width_mult) for one in found] == [
        ("24", "0.5"), ("24", "1"), ("28", "0.5"), ("28", "1"),
    ]  # fmt: skip
    assert found[0].folder == Path("run/pairs/fp32-24-x0.5")


def test_a_single_pair_is_a_run_of_its_own_and_several_lie_inside_one() -> None:
    assert pairs_of(CONFIG, Path("run"))[0].folder == Path("run")
    several = msgspec.structs.replace(CONFIG, precision="auto", resolution="24")
    folders = [one.folder for one in pairs_of(several, Path("run"))]
    assert folders == [Path("run/pairs/fp32-24"), Path("run/pairs/int8-24")]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"precision": "fp32,int4"}, "--precision 'fp32,int4': this version compiles fp32, int8"),
        ({"resolution": "24,big"}, "--resolution '24,big': expected pixels, like 24,28,32"),
        ({"width_mult": "1,wide"}, "--width-mult '1,wide': expected numbers, like 0.75,1"),
        ({"width_mult": "0"}, "--width-mult '0': expected numbers, like 0.75,1"),
    ],
)
def test_what_cannot_be_meant_is_told_before_any_run(changes: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(**changes)


def test_images_come_in_the_resolution_asked_for() -> None:
    config = msgspec.structs.replace(CONFIG, resolution="24")
    assert load_images(config).input_shape == (1, 24, 24)
    assert load_images(CONFIG).input_shape == load_dataset(CONFIG.data).input_shape


def test_a_space_has_the_widths_asked_for_and_a_name_of_its_own() -> None:
    space, half = (load_space("mobile", (1, 28, 28), 10, width_mult=text) for text in ("", "0.5"))
    assert isinstance(space, MobileSpace) and isinstance(half, MobileSpace)
    assert [stage.width for stage in half.stages] == [8, 16, 24, 32]  # 12, 20 round up
    assert half.head_width == space.head_width
    assert half.decisions == space.decisions and half.name == "mobile-x0.5"
    with pytest.raises(UsageError, match=r"--width-mult 0.5: the space 'cells' is no chain"):
        load_space("cells", (1, 28, 28), 10, width_mult="0.5")


def cost_ms(block: Block) -> float:
    """Anything that grows with size and width, but not evenly."""
    return 0.1 + 1e-6 * block.macs + 1e-7 * block.in_size**2 * block.out_channels


@pytest.mark.parametrize("budget_ms", [0.9, 1.1, 1.4])
@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_all_sizes_and_widths_is_what_trying_every_network_finds(
    seed: int, budget_ms: float
) -> None:
    rng = np.random.default_rng(seed)
    low_ms, every, derived = 0.9 * budget_ms, list[float](), list[float]()
    for size, width_mult in product((8, 12, 16), (1.0, 2.0, 3.0)):
        space = scaled(tiny_space(size=size, widths=(8, 16, 16)), width_mult)
        costs = cost_table(space, cost_ms, 0.05)
        scores = [(width_mult + rng.normal(0, 1, len(row))).tolist() for row in costs.mean_ms]

        def score(choices: tuple[int, ...], scores: list[list[float]] = scores) -> float:
            return sum(row[choice] for row, choice in zip(scores, choices, strict=True))

        networks = product(*(range(len(row)) for row in costs.mean_ms))
        inside = [one for one in networks if low_ms <= costs.network_ms(one) <= budget_ms]
        every += map(score, inside)
        if costs.smallest_ms <= budget_ms:
            found = window_knapsack(scores, costs, low_ms, budget_ms)
            assert costs.network_ms(found) <= budget_ms
            assert not inside or found in inside
            derived += [score(found)] if inside else []
    assert len(derived) > 2
    assert max(derived) == pytest.approx(max(every), rel=1e-12)


def outcome(verdict: str, ms: float | None = None, accuracy: float | None = None) -> Outcome:
    return Outcome("int8", "", "", verdict, ms, accuracy)


def test_of_those_that_keep_the_budget_the_most_accurate_is_chosen() -> None:
    found = [outcome("kept", 1.0, 0.8), outcome("kept", 1.9, 0.9), outcome("missed", 2.1, 0.99)]
    assert choose(found) == 1


def test_where_none_keeps_it_the_fastest_is_chosen() -> None:
    found = [outcome("missed", 3.0, 0.9), outcome("not searched"), outcome("missed", 2.5, 0.8)]
    assert choose(found) == 2


@pytest.mark.slow
def test_auto_delivers_the_better_of_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch)
    data, out = write_images(tmp_path / "images.npz"), tmp_path / "run"
    command = [
        "specialize", "--target", "simulated-phone", "--budget", "30%", "--quiet",
        "--out", str(out), "--data", str(data), "--precision", "auto",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.stderr
    outcomes = json.loads((out / "pairs.json").read_bytes())
    assert [one["precision"] for one in outcomes] == ["fp32", "int8"]
    best = max(outcomes, key=lambda one: one["validation_accuracy"])
    [chosen] = json.loads((out / "report.json").read_bytes())["results"]
    assert chosen["precision"] == best["precision"]
    for artifact in chosen["artifacts"]:
        assert (out / artifact["path"]).is_file()
    again = CliRunner().invoke(cli, [*command, "--resume"])
    assert again.exit_code == 0, again.stderr
    assert json.loads((out / "pairs.json").read_bytes()) == outcomes


@pytest.mark.slow
def test_of_two_widths_at_one_budget_the_better_file_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch)
    data, out = write_images(tmp_path / "images.npz"), tmp_path / "run"
    command = [
        "specialize", "--target", "simulated-phone", "--budget", "40%", "--quiet", "--out",
        str(out), "--data", str(data), "--width-mult", "0.5,1", "--strategy", "random",
    ]  # fmt: skip
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.stderr
    outcomes = json.loads((out / "pairs.json").read_bytes())
    assert [one["width_mult"] for one in outcomes] == ["0.5", "1"]
    reports = [
        json.loads((out / "pairs" / f"fp32-x{width}" / "report.json").read_bytes())["results"][0]
        for width in ("0.5", "1")
    ]
    found = [
        out / "pairs" / f"fp32-x{width}" / "search/architecture.json" for width in ("0.5", "1")
    ]
    spaces = [json.loads(file.read_bytes())["genotype"]["space"] for file in found]
    assert spaces == ["mobile-x0.5", "mobile"]
    report = json.loads((out / "report.json").read_bytes())
    [chosen] = report["results"]
    measure, repeat, show = (one["line"] for one in report["commands"])
    assert "--width-mult 0.5,1" in repeat and "pairs" not in measure + show
    digests = [one["architecture"]["digest"] for one in reports]
    best = choose([msgspec.convert(one, Outcome) for one in outcomes])
    assert chosen["architecture"]["digest"] == digests[best]
    assert chosen["verdict"] == "kept"
    assert chosen["budget_ms"] == pytest.approx(reports[0]["budget_ms"], rel=1e-5)
