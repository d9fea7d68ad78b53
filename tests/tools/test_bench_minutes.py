"""The program that compares runs with the minutes that they were given."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools.bench.minutes import planned, run_command

OUTPUT = """\
latency model of host-cpu
5 min: 527 (weight steps), 289 (training) images/s measured; 2 + 1 epochs of search
host-cpu: budget 0.1636 ms of 0.02429 to 0.219 ms
"""


def test_the_plan_is_what_a_run_says_behind_its_minutes() -> None:
    plan = "527 (weight steps), 289 (training) images/s measured; 2 + 1 epochs of search"
    assert planned(OUTPUT) == plan
    assert planned("host-cpu: budget 0.1636 ms\n") == ""


def test_a_command_is_timed_and_one_that_fails_is_an_error(tmp_path: Path) -> None:
    run = run_command(["--version"], tmp_path / "a")
    assert run.processor_s > 0 and 0 <= run.suspended_s < run.wall_s
    with pytest.raises(subprocess.CalledProcessError) as error:
        run_command(["train", "--data", "no-such-data"], tmp_path / "b")
    assert error.value.returncode == 2
