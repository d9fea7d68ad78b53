"""A latency model is checked with networks that it never saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.devices.runner import open_runner
from hwnas.errors import HwnasError
from hwnas.profiling.check import check_model
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.profiling.setup import ProfilingSetup
from tests.support.reporting.consoles import SilentConsole
from tests.support.reporting.sample_run import PHONE
from tests.support.tiny import MB33, MB76, tiny_space


def test_without_a_network_that_the_model_never_saw_there_is_no_check(tmp_path: Path) -> None:
    space = tiny_space(MB33, MB76, widths=(16,))  # two networks
    setup, console = ProfilingSetup("phone", PHONE, space, tmp_path), SilentConsole()
    with open_runner(PHONE) as runner:
        plan = MeasurePlan(goal=0.0)
        model = measure_latency_model(PHONE, runner, space, tmp_path, console, plan=plan)
        with pytest.raises(HwnasError, match=f"fitted to all networks of space {space.name}, so"):
            check_model(model, setup, runner, console)
    assert not list(tmp_path.glob("check-*"))
