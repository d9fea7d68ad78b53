"""The width that a budget in ms allows, where nobody asked for one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.console import QuietConsole
from hwnas.devices.limits import smallest_bytes
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.profiling.bench import compile_untrained
from hwnas.shipped import shipped
from hwnas.spaces.mobile.space import mobile_space, mobilenet_v2_like, scaled
from hwnas.specialize.run_folder import Config, RunFolder
from hwnas.specialize.scenarios import scenarios_of
from hwnas.specialize.setup.auto_width import BLOCK, WIDTHS, widened

CONFIG = Config(target="simulated-phone", data="fashion-mnist-6k", effort="standard")


def asked(budget: str, **changes: object) -> Config:
    return msgspec.structs.replace(CONFIG, budget=budget, **changes)


@pytest.fixture(scope="module")
def uniform_ms(tmp_path_factory: pytest.TempPathFactory) -> dict[float, float]:
    """What the phone takes for the uniform network of each width."""
    folder = tmp_path_factory.mktemp("uniform")
    space, profile = mobile_space((1, 28, 28), 10), find_profile("simulated-phone")
    subjects: list[Subject] = []
    for width in WIDTHS:
        one = mobilenet_v2_like(space, BLOCK, width)
        file = folder / f"{width}.tflite"
        compile_untrained(one.blocks, one.inputs, "tflite", file)
        subjects.append(Subject(str(width), file))
    measured = open_runner(profile).measure(subjects)
    return {width: one.median_ms for width, one in zip(WIDTHS, measured, strict=True)}


def test_a_budget_widens_the_space_up_to_where_the_uniform_network_keeps_it(
    uniform_ms: dict[float, float],
) -> None:
    narrow, middle, wide = (uniform_ms[width] for width in WIDTHS)
    assert narrow < middle < wide
    found = {
        ms: widened(asked(f"{ms:.5f}ms"), QuietConsole()).width_mult
        for ms in (0.8 * narrow, 1.1 * narrow, 1.1 * middle, 1.1 * wide, 9 * wide)
    }
    assert list(found.values()) == ["", "1.5", "2", "3", "3"]


def test_a_width_whose_files_the_device_does_not_take_is_left_out(
    uniform_ms: dict[float, float], tmp_path: Path
) -> None:
    profile = (shipped("devices") / "simulated-phone.toml").read_text()
    space = mobile_space((1, 28, 28), 10)
    most = [smallest_bytes(scaled(space, width)) for width in WIDTHS]
    assert most[1] is not None and most[2] is not None and most[1] < most[2]
    limited = tmp_path / "simulated-phone.toml"
    assert profile.count("[limits]\n") == 1
    limited.write_text(profile.replace("[limits]\n", f"[limits]\nmodel_bytes = {most[2] - 1}\n"))
    budget = f"{1.1 * uniform_ms[WIDTHS[2]]:.5f}ms"
    assert widened(asked(budget, target=str(limited)), QuietConsole()).width_mult == "2"


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": "70%"},
        {"budget": ""},
        {"width_mult": "1"},
        {"width_mult": "0.5,1"},
        {"effort": "quick"},
        {"space": "cells"},
        {"precision": "auto"},
        {"target": "pixel1"},
    ],
)
def test_it_stays_as_asked_otherwise(changes: dict[str, str]) -> None:
    config = msgspec.structs.replace(asked("500ms"), **changes)  # type: ignore[arg-type]
    assert widened(config, QuietConsole()) is config


def test_a_run_that_was_begun_keeps_its_width(tmp_path: Path) -> None:
    config = asked("500ms")
    RunFolder.open(
        tmp_path, msgspec.structs.replace(config, width_mult="1.5"), resume=False
    ).close()
    assert widened(config, QuietConsole(), tmp_path).width_mult == "1.5"


def test_several_budgets_share_the_space_as_it_is() -> None:
    found = scenarios_of(asked("100ms,500ms"), Path())
    assert [one.config.width_mult for one in found] == ["1", "1"]
    wide = scenarios_of(asked("100ms,500ms", width_mult="2"), Path())
    assert {one.config.width_mult for one in wide} == {"2"}
