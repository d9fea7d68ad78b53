"""Several targets and budgets: one supernet, and what separate runs would have found."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import CliRunner

from hwnas.cli.main import cli
from hwnas.errors import UsageError
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.specialize.run_folder import Config
from hwnas.specialize.scenarios import Scenario, scenarios_of, share_supernet
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from tests.support.sample_run import make_small, write_images
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

CONFIG = Config(target="simulated-phone", data="fashion-mnist-6k")
SPACE = tiny_space()
TRAIN, VALID = tiny_data(48), tiny_data(20, seed=1)


def test_every_target_is_searched_at_every_budget_in_a_folder_of_its_own() -> None:
    config = msgspec.structs.replace(CONFIG, target="host-cpu,pixel1", budget="10ms,20ms")
    found = scenarios_of(config, Path("run"))
    assert [(one.config.target, one.config.budget) for one in found] == [
        ("host-cpu", "10ms"), ("host-cpu", "20ms"), ("pixel1", "10ms"), ("pixel1", "20ms"),
    ]  # fmt: skip
    assert found[1].folder == Path("run/scenarios/host-cpu-20ms")


def test_one_target_and_budget_is_a_run_of_its_own() -> None:
    assert scenarios_of(CONFIG, Path("run")) == [Scenario(CONFIG, Path("run"))]


@pytest.mark.parametrize("name", ["proxyless", "random"])
def test_a_search_on_another_ones_supernet_is_the_search_of_a_separate_run(
    name: str, tmp_path: Path
) -> None:
    kind = {"proxyless": ProxylessGradient, "random": RandomSearch}[name]
    plan = SearchPlan(warmup_epochs=2, search_epochs=2, batch_size=8)
    config = msgspec.structs.replace(CONFIG, strategy=name)
    one, other, alone = (Scenario(config, tmp_path / part) for part in "abc")

    def files_of(scenario: Scenario) -> SearchFiles:
        (scenario.folder / "search").mkdir(parents=True, exist_ok=True)
        return SearchFiles(
            scenario.folder / "checkpoints" / "search.safetensors",
            scenario.folder / "search" / "log.jsonl",
        )

    def search(scenario: Scenario, budget_ms: float) -> int:
        """Return how many lines the search itself wrote."""
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        strategy = kind.begin(
            SearchContext(
                space=SPACE,
                costs=tiny_costs(SPACE),
                budget_ms=budget_ms,
                generator=generator,
                arch_learning_rate=0.05,
            )
        )
        files, seen = files_of(scenario), list[object]()
        files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        run_search(strategy, TRAIN, VALID, plan, 0, files, on_line=seen.append)
        return len(seen)

    whole = search(one, 2.5)
    share_supernet(one, other)
    rest = search(other, 1.5)
    searched = [line for line in read_log(files_of(one).log) if line.phase == "search"]
    assert rest == (0 if name == "random" else len(searched)) < whole
    assert search(alone, 1.5) == whole
    states = [load_checkpoint(files_of(scenario).checkpoint)[0] for scenario in (other, alone)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert read_log(files_of(other).log) == read_log(files_of(alone).log)


def test_a_warm_up_that_only_runs_what_the_budget_allows_is_not_shared(tmp_path: Path) -> None:
    for name, shared in (("darts", True), ("ista", False)):
        config = msgspec.structs.replace(CONFIG, strategy=name, space="cells")
        one, other = (Scenario(config, tmp_path / name / part) for part in "ab")
        kept = one.folder / "checkpoints" / "search.safetensors"
        save_checkpoint(kept, {"weights": torch.zeros(1)}, {"epochs": "1"})
        save_checkpoint(
            SearchFiles.of_run(one.folder).warm_up, {"weights": torch.zeros(1)}, {"epochs": "1"}
        )
        (one.folder / "search").mkdir()
        (one.folder / "search" / "log.jsonl").write_bytes(b"")
        share_supernet(one, other)
        assert (other.folder / "checkpoints" / "search.safetensors").exists() == shared


@pytest.mark.slow
def test_a_run_of_two_budgets_has_two_results_and_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch)
    data, out = write_images(tmp_path / "images.npz"), tmp_path / "run"
    command = [
        "specialize", "--target", "simulated-phone", "--budget", "40%,70%", "--quiet",
        "--out", str(out), "--data", str(data),
    ]  # fmt: skip
    result = CliRunner().invoke(cli, command)
    assert result.exit_code in (0, 5), result.stderr
    report = json.loads((out / "report.json").read_bytes())
    first, second = report["results"]
    assert first["budget_ms"] == pytest.approx(4 / 7 * second["budget_ms"])
    for row in (*first["artifacts"], *second["artifacts"]):
        assert (out / row["path"]).is_file()
    assert {point["budget_ms"] for point in report["search"]} == {
        first["budget_ms"], second["budget_ms"],
    }  # fmt: skip
    logs = [
        (out / "scenarios" / f"simulated-phone-{share}" / "search" / "log.jsonl")
        for share in ("40%", "70%")
    ]
    warm = [[line for line in log.read_text().splitlines() if '"warm-up"' in line] for log in logs]
    assert warm[0] == warm[1] != []
    lines = [one["line"] for one in report["commands"]]
    assert lines[2] == report["command"] and "40%,70%" in lines[2]
    for row, line in zip((first, second), lines[:2], strict=True):
        assert str(out / row["artifacts"][0]["path"]) in line
    assert lines[3] == f"hwnas report {out}"
    several = CliRunner().invoke(cli, ["deploy", str(out), "--no-device"])
    assert isinstance(several.exception, UsageError)
    assert f"name that of one: {out / 'scenarios/simulated-phone-40%'}" in str(several.exception)
