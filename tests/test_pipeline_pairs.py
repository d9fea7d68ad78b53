"""Several precisions and resolutions: which runs they are, and which is chosen."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.cli.main import cli
from hwnas.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.pipeline.pairs import Outcome, choose, pairs_of
from hwnas.pipeline.planning import load_images
from hwnas.pipeline.run import Config, unlock_all
from tests.sample_run import make_small, write_images

CONFIG = Config(target="simulated-phone", data="fashion-mnist-6k")


def asked(**changes: str) -> list[tuple[str, str]]:
    config = msgspec.structs.replace(CONFIG, **changes)
    return [(one.config.precision, one.config.resolution) for one in pairs_of(config, Path("run"))]


def test_auto_is_both_precisions() -> None:
    assert asked(precision="auto") == asked(precision="fp32,int8") == [("fp32", ""), ("int8", "")]


def test_every_precision_is_searched_at_every_resolution() -> None:
    found = asked(precision="fp32, int8", resolution="24,28")
    assert found == [("fp32", "24"), ("fp32", "28"), ("int8", "24"), ("int8", "28")]


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
    ],
)
def test_what_cannot_be_meant_is_told_before_any_run(changes: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        asked(**changes)


def test_images_come_in_the_resolution_asked_for() -> None:
    config = msgspec.structs.replace(CONFIG, resolution="24")
    assert load_images(config).input_shape == (1, 24, 24)
    assert load_images(CONFIG).input_shape == load_dataset(CONFIG.data).input_shape


def outcome(verdict: str, ms: float | None = None, accuracy: float | None = None) -> Outcome:
    return Outcome("int8", "", verdict, ms, accuracy)


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
    unlock_all()
    assert result.exit_code == 0, result.stderr
    outcomes = json.loads((out / "pairs.json").read_bytes())
    assert [one["precision"] for one in outcomes] == ["fp32", "int8"]
    best = max(outcomes, key=lambda one: one["validation_accuracy"])
    [chosen] = json.loads((out / "report.json").read_bytes())["results"]
    assert chosen["precision"] == best["precision"]
    for artifact in chosen["artifacts"]:
        assert (out / artifact["path"]).is_file()
    again = CliRunner().invoke(cli, [*command, "--resume"])
    unlock_all()
    assert again.exit_code == 0, again.stderr
    assert json.loads((out / "pairs.json").read_bytes()) == outcomes
