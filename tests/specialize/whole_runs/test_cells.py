"""`--space cells --effort full`: searched small, delivered in the size that the budget allows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from hwnas.cli.main import cli
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import open_runner
from hwnas.networks.resolve import read_architecture
from hwnas.search.cells import early_stopping
from hwnas.search.plan import SearchFiles
from hwnas.spaces.cells import sizes
from hwnas.spaces.cells import space as space_module
from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.sizes import sized_cells, sized_name
from hwnas.specialize.setup import plan
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.scale import cells
from hwnas.specialize.setup.scale.uniform import measured_ms
from hwnas.specialize.setup.work import recipes
from hwnas.specialize.spec import read_spec
from hwnas.training.checkpoint import load_checkpoint
from tests.support.machines.forked import fork, fork_trainings, killed_when
from tests.support.reporting.sample_run import IMAGE_BYTES, write_images

SEARCHED = StackSize(2, 4)
SIZES = [StackSize(3, 16), StackSize(3, 8), StackSize(2, 4)]
DARTS = replace(
    recipes.DARTS,
    arch_learning_rate=0.1,
    search=replace(recipes.DARTS.search, search_epochs=2),
    training=replace(recipes.DARTS.training, epochs=2, auxiliary=0.0),
)


def make_small(patch: pytest.MonkeyPatch) -> None:
    """Let the full effort be two epochs of small networks, searched in a smaller one."""
    fork_trainings(patch)
    patch.setattr(plan, "step_image_bytes", lambda architecture, compute: IMAGE_BYTES)
    patch.setattr(sizes, "SEARCH_SIZE", SEARCHED)
    patch.setattr(cells, "SEARCH_SIZE", SEARCHED)
    patch.setattr(cells, "network_sizes", lambda input_shape: SIZES)
    patch.setattr(space_module, "WIDTH_MULTS", (1.0,))
    patch.setitem(recipes.CELLS, "darts", DARTS)
    patch.setattr(early_stopping, "POWER_STEPS", 2)  # the curvature takes most of the search
    patch.setitem(EFFORTS, "full", replace(EFFORTS["full"], screened=3, trained=1, baselines=0))


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder))
        make_small(patch)
        yield folder


@pytest.fixture(scope="module")
def budget_ms() -> float:
    """A budget that the middle size meets and the largest one exceeds."""
    profile, networks = find_profile("simulated-phone"), {}
    for size in SIZES[:2]:
        space = sized_cells(sized_name("cells", size), (1, 16, 16), 3)
        assert space is not None
        networks[str(size)] = space.architecture(space.default)
    with open_runner(profile) as runner:
        large, middle = measured_ms(networks, profile, runner).values()
    assert middle < 0.8 * large
    return 1.1 * middle


@pytest.fixture(scope="module")
def options(home: Path, budget_ms: float) -> list[str]:
    data = write_images(home / "images.npz")
    words = "specialize --target simulated-phone --space cells --strategy darts --effort full"
    return [*words.split(), "--threads", "1", "--data", str(data), "--budget", f"{budget_ms}ms"]


def call(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments)


@pytest.fixture(scope="module")
def finished(home: Path, options: list[str]) -> Path:
    out = home / "runs" / "whole"
    result = call(*options, "--out", str(out))
    assert result.exit_code == 0, result.stderr
    (out / "stderr.txt").write_text(result.stderr)
    return out


def test_the_delivered_network_has_the_budgets_size_and_keeps_the_budget(
    finished: Path, budget_ms: float
) -> None:
    assert read_spec(finished).space == "cells-3x8"
    network = read_architecture(finished / "search" / "architecture.json")
    assert network.genotype.space == "cells-3x8"
    space = sized_cells("cells-3x8", (1, 16, 16), 3)
    assert space is not None and network == space.architecture(network.genotype)
    [result] = json.loads((finished / "report.json").read_bytes())["results"]
    assert result["verdict"] == "kept"
    assert 0.8 * budget_ms < result["latency"]["median_ms"] <= budget_ms
    line = "--space cells-3x8: networks of 3 cells of 8 channels, searched in 2 cells of 4 channels"
    assert line in (finished / "stderr.txt").read_text()


def test_the_search_net_in_the_run_folder_is_small(finished: Path) -> None:
    state, _ = load_checkpoint(SearchFiles.of_run(finished).checkpoint)
    numbers = {name.partition("cells.")[2].partition(".")[0] for name in state if "cells." in name}
    assert numbers == {"0", "1"}
    stem = next(value for name, value in state.items() if name.endswith("stem.0.conv.weight"))
    assert stem.shape[0] == 3 * SEARCHED.channels


def test_the_plan_names_the_size_before_anything_is_trained(
    options: list[str], budget_ms: float
) -> None:
    result = call(*options, "--dry-run", "--json")
    assert result.exit_code == 0, result.stderr
    [planned] = json.loads(result.stdout)["results"]
    assert planned["space"] == "cells-3x8"
    low_ms, _, high_ms = planned["range_ms"]
    assert low_ms < budget_ms == planned["budget_ms"] < high_ms


@pytest.mark.slow
def test_a_killed_run_is_resumed_by_the_same_command_and_ends_the_same(
    tmp_path: Path, options: list[str], finished: Path
) -> None:
    out = tmp_path / "run"
    arguments = [*options, "--out", str(out)]
    killed_when(fork(start, arguments), out, "search/log.jsonl")
    assert not (out / "report.json").exists()
    resumed = call(*arguments, "--resume")
    assert resumed.exit_code == 0, resumed.stderr
    ends = [json.loads((run / "report.json").read_bytes()) for run in (out, finished)]
    digests = [end["results"][0]["architecture"]["digest"] for end in ends]
    files = [[file["sha256"] for file in end["results"][0]["artifacts"]] for end in ends]
    assert digests[0] == digests[1] and files[0] == files[1]
    assert msgspec.toml.decode((out / "config.toml").read_bytes())["space"] == "cells-3x8"


def start(arguments: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)
        cli.main(arguments)
