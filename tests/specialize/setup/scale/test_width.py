"""The width that a budget in ms allows, if none is given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.console import QuietConsole
from hwnas.devices.limits import smallest_bytes
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.profiling.bench import compile_untrained
from hwnas.shipped import shipped
from hwnas.spaces.mobile.space import mobile_space, mobilenet_v2_like, scaled
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup.resolve import Resources
from hwnas.specialize.setup.scale.width import BLOCK, WIDTHS, widened
from hwnas.specialize.spec import Milliseconds, RunSpec, Share
from hwnas.specialize.sweep import scenarios

SPEC = RunSpec(targets=("simulated-phone",), effort="standard")


def spec(*budgets_ms: float, **changes: Any) -> RunSpec:
    return msgspec.structs.replace(SPEC, budgets=tuple(map(Milliseconds, budgets_ms)), **changes)


def widths(run: RunSpec, folder: Path | None = None) -> tuple[float, ...]:
    with Resources(QuietConsole()) as resources:
        return widened(run, resources, folder).width_mults


@pytest.fixture(scope="module")
def uniform_ms(tmp_path_factory: pytest.TempPathFactory) -> dict[float, float]:
    """Return the phone's latency of the uniform network of each width."""
    folder = tmp_path_factory.mktemp("uniform")
    space, profile = mobile_space((1, 28, 28), 10), find_profile("simulated-phone")
    subjects: list[Subject] = []
    for width in WIDTHS:
        network = mobilenet_v2_like(space, BLOCK, width)
        file = folder / f"{width}.tflite"
        compile_untrained(network.blocks, network.inputs, file)
        subjects.append(Subject(str(width), file))
    with open_runner(profile) as runner:
        latencies_ms = [each.median_ms for each in runner.measure(subjects)]
    return dict(zip(WIDTHS, latencies_ms, strict=True))


def test_a_budget_widens_the_space_up_to_where_the_uniform_network_keeps_it(
    uniform_ms: dict[float, float],
) -> None:
    narrow, middle, wide = (uniform_ms[width] for width in WIDTHS)
    assert narrow < middle < wide
    budgets_ms = (0.8 * narrow, 1.1 * narrow, 1.1 * middle, 1.1 * wide, 9 * wide)
    assert [widths(spec(ms)) for ms in budgets_ms] == [(), (1.5,), (2.0,), (3.0,), (3.0,)]


def test_a_width_whose_files_the_device_does_not_take_is_left_out(
    uniform_ms: dict[float, float], tmp_path: Path
) -> None:
    profile = (shipped("devices") / "simulated-phone.toml").read_text()
    space = mobile_space((1, 28, 28), 10)
    sizes = [smallest_bytes(scaled(space, width)) for width in WIDTHS]
    assert sizes[1] is not None and sizes[2] is not None and sizes[1] < sizes[2]
    limited = tmp_path / "simulated-phone.toml"
    assert profile.count("[limits]\n") == 1
    limited.write_text(profile.replace("[limits]\n", f"[limits]\nmodel_bytes = {sizes[2] - 1}\n"))
    assert widths(spec(1.1 * uniform_ms[WIDTHS[2]], targets=(str(limited),))) == (2.0,)


@pytest.mark.parametrize(
    "changes",
    [
        {"budgets": (Share(0.7),)},
        {"budgets": ()},
        {"width_mults": (1.0,)},
        {"width_mults": (0.5, 1.0)},
        {"effort": "quick"},
        {"space": "cells"},
        {"precisions": ("fp32", "int8")},
        {"targets": ("pixel1",)},
    ],
)
def test_the_width_stays_otherwise(changes: dict[str, Any]) -> None:
    unchanged = msgspec.structs.replace(spec(500), **changes)
    with Resources(QuietConsole()) as resources:
        assert widened(unchanged, resources) is unchanged


def test_a_run_that_exists_keeps_its_width(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, spec(500, width_mults=(1.5,)), resume=False):
        assert widths(spec(500), tmp_path) == (1.5,)


def test_several_budgets_share_the_space_as_it_is() -> None:
    runs = scenarios(spec(100, 500), Path())
    assert [run.spec.width_mults for run in runs] == [(1.0,), (1.0,)]
    wide = scenarios(spec(100, 500, width_mults=(2.0,)), Path())
    assert {run.spec.width_mults for run in wide} == {(2.0,)}
