"""The commands that a report suggests name what the user named."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.specialize.results.next_commands import next_commands
from hwnas.specialize.spec import RunSpec
from tests.support.reporting.sample_report import measured_report


def test_files_are_measured_again_on_the_profile_that_was_given() -> None:
    result = measured_report().results[0]
    for target, given in [("board", "/here/board.toml"), ("host-cpu", "host-cpu")]:
        spec = RunSpec(targets=("pixel1", given))
        commands = next_commands(
            spec, Path("run"), [msgspec.structs.replace(result, target=target)]
        )
        [line] = [each.line for each in commands if each.line.startswith("hwnas benchmark")]
        assert line.endswith(f" --target {given}")
