"""The size of networks of cells in an effort of a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.devices.profile import find_profile
from hwnas.devices.runner import open_runner
from hwnas.errors import UsageError
from hwnas.spaces.cells.layout import StackSize
from hwnas.spaces.cells.sizes import sized_cells, sized_name
from hwnas.specialize.command_line import resumed_spec
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup.resolve import Resources
from hwnas.specialize.setup.scale import cells
from hwnas.specialize.setup.scale.cells import sized
from hwnas.specialize.setup.scale.uniform import measured_ms
from hwnas.specialize.spec import Milliseconds, RunSpec, Share
from tests.support.reporting.consoles import RecordingConsole

SIZES = [StackSize(5, 12), StackSize(5, 8), StackSize(3, 8)]
SPEC = RunSpec(targets=("simulated-phone",), space="cells", strategy="darts", effort="full")


@pytest.fixture(autouse=True)
def few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "network_sizes", lambda input_shape: SIZES)


@pytest.fixture(scope="module")
def default_ms() -> list[float]:
    """Return the phone's latency of the cells of DARTS in each size."""
    profile = find_profile("simulated-phone")
    networks = {}
    for size in SIZES:
        space = sized_cells(sized_name("cells", size), (1, 28, 28), 10)
        assert space is not None
        networks[str(size)] = space.architecture(space.default)
    with open_runner(profile) as runner:
        return list(measured_ms(networks, profile, runner).values())


def space_of(spec: RunSpec, folder: Path | None = None) -> tuple[str, str]:
    """Return the space that a run searches, and the line that names it."""
    console = RecordingConsole()
    with Resources(console) as resources:
        return sized(spec, resources, folder).space, "; ".join(console.lines)


def changed(**changes: Any) -> RunSpec:
    return msgspec.structs.replace(SPEC, **changes)


def test_networks_have_the_largest_size_that_keeps_the_budget(default_ms: list[float]) -> None:
    large, middle, small = default_ms
    assert large > middle > small
    names: list[str] = []
    for budget_ms in (1.1 * large, 1.1 * middle, 1.1 * small, 0.9 * small):
        name, line = space_of(changed(budgets=(Milliseconds(budget_ms),)))
        names.append(name)
        assert f"--space {name}: networks of " in line
        assert "searched in 8 cells of 16 channels" in line
        assert f"of {budget_ms:.4g} ms" in line
    assert names == ["cells-5x12", "cells-5x8", "cells-3x8", "cells-3x8"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"budgets": (Share(0.5),)},
        {"targets": ("pixel1",), "budgets": (Milliseconds(0.1),)},
        {"precisions": ("fp32", "int8"), "resolutions": (28, 32)},
    ],
)
def test_without_a_budget_to_measure_they_have_the_papers_size(changes: dict[str, Any]) -> None:
    name, line = space_of(changed(**changes))
    assert name == "cells-5x12"
    assert "as in the paper" in line


def test_the_one_stage_search_of_ista_nas_is_in_the_network_itself() -> None:
    name, line = space_of(changed(space="cells-norm", strategy="ista-one-stage"))
    assert name == "cells-norm-5x12"
    assert "5 cells of 12 channels, searched in the same size" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"effort": "quick"},
        {"effort": "standard", "budgets": (Milliseconds(500),)},
        {"space": "cells-14x20"},
        {"space": "mobile", "strategy": "proxyless"},
    ],
)
def test_the_space_stays_otherwise(changes: dict[str, Any]) -> None:
    unchanged = changed(**changes)
    assert space_of(unchanged) == (unchanged.space, "")


def test_a_run_that_exists_keeps_its_size(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, changed(space="cells-14x20"), resume=False):
        assert space_of(SPEC, tmp_path) == ("cells-14x20", "")


def test_a_run_is_resumed_by_the_command_that_began_it(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, changed(space="cells-14x20"), resume=False):
        pass
    for fields in ({"space": "cells"}, {"space": "cells-14x20"}, {}):
        assert resumed_spec(tmp_path, fields).space == "cells-14x20"
    with pytest.raises(UsageError, match="has --space cells-14x20, not --space cells-8x8"):
        resumed_spec(tmp_path, {"space": "cells-8x8"})
