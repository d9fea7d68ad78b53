"""Sweeps: which runs several values stand for, what they share, and which one is delivered."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import area
from hwnas.cli.main import cli
from hwnas.errors import UsageError
from hwnas.latency_models.cost import cost_table
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.knapsack import window_knapsack
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import scaled
from hwnas.specialize.spec import Milliseconds, RunSpec, Share
from hwnas.specialize.sweep import (
    SweepRun,
    VariantResult,
    best_variant,
    scenarios,
    share_supernet,
    sharing,
    variants,
)
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from tests.support.reporting.sample_run import make_small, write_images
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

SPEC = RunSpec(targets=("simulated-phone",))
SPACE = tiny_space()
TRAIN, VALID = tiny_data(48), tiny_data(20, seed=1)
FOLDER = Path("run")


def changed(**changes: Any) -> RunSpec:
    return msgspec.structs.replace(SPEC, **changes)


def test_every_precision_is_searched_at_every_resolution() -> None:
    runs = variants(changed(precisions=("fp32", "int8"), resolutions=(24, 28)), FOLDER)
    assert [(run.spec.precision, run.spec.resolution) for run in runs] == [
        ("fp32", 24),
        ("fp32", 28),
        ("int8", 24),
        ("int8", 28),
    ]


def test_every_width_is_searched_at_every_resolution() -> None:
    runs = variants(changed(resolutions=(24, 28), width_mults=(0.5, 1.0)), FOLDER)
    assert [(run.spec.resolution, run.spec.width_mult) for run in runs] == [
        (24, 0.5),
        (24, 1.0),
        (28, 0.5),
        (28, 1.0),
    ]
    assert runs[0].folder == Path("run/variants/fp32-24-x0.5")


def test_a_single_variant_is_the_run_itself() -> None:
    assert variants(SPEC, FOLDER) == [SweepRun(SPEC, FOLDER)]
    several = changed(precisions=("fp32", "int8"), resolutions=(24,))
    folders = [run.folder for run in variants(several, FOLDER)]
    assert folders == [Path("run/variants/fp32-24"), Path("run/variants/int8-24")]


def cost_ms(block: Block) -> float:
    """Anything that grows with size and width, but not evenly."""
    return 0.1 + 1e-6 * block.macs + 1e-7 * area(block.in_size) * block.out_channels


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
        inside = [n for n in networks if low_ms <= costs.network_ms(n) <= budget_ms]
        every += map(score, inside)
        if costs.smallest_ms <= budget_ms:
            network = window_knapsack(scores, costs, low_ms, budget_ms)
            assert costs.network_ms(network) <= budget_ms
            assert not inside or network in inside
            derived += [score(network)] if inside else []
    assert len(derived) > 2
    assert max(derived) == pytest.approx(max(every), rel=1e-12)


def result(
    verdict: str, median_ms: float | None = None, validation_accuracy: float | None = None
) -> VariantResult:
    return VariantResult(
        precision="int8",
        resolution=None,
        width_mult=None,
        verdict=verdict,
        median_ms=median_ms,
        validation_accuracy=validation_accuracy,
    )


def test_of_those_that_keep_the_budget_the_most_accurate_is_best() -> None:
    results = [result("kept", 1.0, 0.8), result("kept", 1.9, 0.9), result("missed", 2.1, 0.99)]
    assert best_variant(results) == 1


def test_where_none_keeps_it_the_fastest_is_best() -> None:
    results = [result("missed", 3.0, 0.9), result("not searched"), result("missed", 2.5, 0.8)]
    assert best_variant(results) == 2


def test_every_target_is_searched_at_every_budget_in_a_folder_of_its_own() -> None:
    budgets = Milliseconds(10.0), Share(0.5)
    runs = scenarios(changed(targets=("host-cpu", "pixel1"), budgets=budgets), FOLDER)
    assert [(run.spec.target, run.spec.budget) for run in runs] == [
        ("host-cpu", budgets[0]),
        ("host-cpu", budgets[1]),
        ("pixel1", budgets[0]),
        ("pixel1", budgets[1]),
    ]
    assert runs[0].folder == Path("run/scenarios/host-cpu-10ms")
    assert runs[1].folder == Path("run/scenarios/host-cpu-50%")


def test_one_target_and_budget_is_the_run_itself() -> None:
    assert scenarios(SPEC, FOLDER) == [SweepRun(SPEC, FOLDER)]


@pytest.mark.parametrize("name", ["proxyless", "random"])
def test_a_search_on_another_ones_supernet_is_the_search_of_a_separate_run(
    name: str, tmp_path: Path
) -> None:
    kind = {"proxyless": ProxylessGradient, "random": RandomSearch}[name]
    plan = SearchPlan(warmup_epochs=2, search_epochs=2, batch_size=8)
    spec = changed(strategy=name)
    first, second, separate = (SweepRun(spec, tmp_path / part) for part in "abc")

    def files_of(run: SweepRun) -> SearchFiles:
        (run.folder / "search").mkdir(parents=True, exist_ok=True)
        return SearchFiles.of_run(run.folder)

    def search(run: SweepRun, budget_ms: float) -> int:
        """Return how many lines the search itself wrote."""
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(0)
        context = SearchContext(
            space=SPACE,
            costs=tiny_costs(SPACE),
            budget_ms=budget_ms,
            generator=generator,
            arch_learning_rate=0.05,
        )
        files, lines = files_of(run), list[object]()
        files.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        run_search(kind.begin(context), TRAIN, VALID, plan, 0, files, on_line=lines.append)
        return len(lines)

    whole = search(first, 2.5)
    share_supernet(first, second)
    rest = search(second, 1.5)
    searched = [line for line in read_log(files_of(first).log) if line.phase == "search"]
    assert rest == (0 if name == "random" else len(searched)) < whole
    assert search(separate, 1.5) == whole
    states = [load_checkpoint(files_of(run).checkpoint)[0] for run in (second, separate)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
    assert read_log(files_of(second).log) == read_log(files_of(separate).log)


def test_a_warm_up_that_only_runs_what_the_budget_allows_is_not_shared(tmp_path: Path) -> None:
    for name, shared in (("darts", True), ("ista", False)):
        spec = changed(strategy=name, space="cells")
        first, second = (SweepRun(spec, tmp_path / name / part) for part in "ab")
        files = SearchFiles.of_run(first.folder)
        for path in (files.checkpoint, files.warm_up):
            save_checkpoint(path, {"weights": torch.zeros(1)}, {"epochs": "1"})
        files.log.parent.mkdir()
        files.log.write_bytes(b"")
        share_supernet(first, second)
        assert SearchFiles.of_run(second.folder).checkpoint.exists() == shared


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the command of a run of seconds into the folder ``run``, for options to be added."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    make_small(monkeypatch)
    data = write_images(tmp_path / "images.npz")
    command = ["specialize", "--target", "simulated-phone", "--quiet"]
    return [*command, "--out", str(tmp_path / "run"), "--data", str(data)]


def read_json(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_networks_of_cells_whose_size_follows_from_the_budget_share_nothing() -> None:
    def shared(**changes: Any) -> int:
        spec = msgspec.structs.replace(
            RunSpec(targets=("simulated-phone",), space="cells", effort="full"),
            budgets=(Share(0.3), Share(0.6)),
            **changes,
        )
        return sharing(scenarios(spec, Path("out")))

    assert shared() == 1
    assert shared(space="cells-20x36") == shared(effort="standard") == 2


@pytest.mark.slow
def test_auto_delivers_the_better_of_two_runs(small_run: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    out, command = tmp_path / "run", [*small_run, "--budget", "30%", "--precision", "auto"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.stderr
    rows = read_json(out / "variants.json")
    assert [row["precision"] for row in rows] == ["fp32", "int8"]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    [chosen] = read_json(out / "report.json")["results"]
    assert chosen["precision"] == best["precision"]
    for artifact in chosen["artifacts"]:
        assert (out / artifact["path"]).is_file()
    again = CliRunner().invoke(cli, [*command, "--resume"])
    assert again.exit_code == 0, again.stderr
    assert read_json(out / "variants.json") == rows


@pytest.mark.slow
def test_of_two_widths_at_one_budget_the_better_file_is_delivered(
    small_run: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    command = [*small_run, "--budget", "40%", "--width-mult", "0.5,1", "--strategy", "random"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 0, result.stderr
    rows = read_json(out / "variants.json")
    assert [row["width_mult"] for row in rows] == [0.5, 1.0]
    reports = [
        read_json(out / "variants" / f"fp32-x{width}" / "report.json")["results"][0]
        for width in ("0.5", "1")
    ]
    files = [
        out / "variants" / f"fp32-x{width}" / "search/architecture.json" for width in ("0.5", "1")
    ]
    spaces = [read_json(file)["genotype"]["space"] for file in files]
    assert spaces == ["mobile-x0.5", "mobile"]
    report = read_json(out / "report.json")
    [chosen] = report["results"]
    evaluate, measure, repeat, show = (command["line"] for command in report["commands"])
    assert "--width-mult 0.5,1" in repeat and "variants" not in evaluate + measure + show
    digests = [report["architecture"]["digest"] for report in reports]
    best = best_variant(msgspec.convert(rows, list[VariantResult]))
    assert chosen["architecture"]["digest"] == digests[best]
    assert chosen["verdict"] == "kept"
    assert chosen["budget_ms"] == pytest.approx(reports[0]["budget_ms"], rel=1e-5)


@pytest.mark.slow
def test_a_run_of_two_budgets_has_two_results_and_their_files(
    small_run: list[str], tmp_path: Path
) -> None:
    out, command = tmp_path / "run", [*small_run, "--budget", "40%,70%"]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code in (0, 5), result.stderr
    report = read_json(out / "report.json")
    first, second = report["results"]
    assert first["budget_ms"] == pytest.approx(4 / 7 * second["budget_ms"])
    for row in (*first["artifacts"], *second["artifacts"]):
        assert (out / row["path"]).is_file()
    assert {point["budget_ms"] for point in report["search"]} == {
        first["budget_ms"],
        second["budget_ms"],
    }
    logs = [
        (out / "scenarios" / f"simulated-phone-{share}" / "search" / "log.jsonl")
        for share in ("40%", "70%")
    ]
    warm = [[line for line in log.read_text().splitlines() if '"warm-up"' in line] for log in logs]
    assert warm[0] == warm[1] != []
    lines = [command["line"] for command in report["commands"]]
    assert lines[4] == report["command"] and "40%,70%" in lines[4]
    for row, line in zip((first, second), lines[1:4:2], strict=True):
        assert str(out / row["artifacts"][0]["path"]) in line
    assert lines[5] == f"hwnas report {out}"
    several = CliRunner().invoke(cli, ["deploy", str(out), "--no-device"])
    assert isinstance(several.exception, UsageError)
    assert f"name a single one: {out / 'scenarios/simulated-phone-40%'}" in str(several.exception)
