"""What to type next, at the end of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from hwnas.pipeline.run import Config, command_line
from hwnas.report.report import Command, Result


def next_commands(config: Config, folder: Path, results: Iterable[Result]) -> tuple[Command, ...]:
    """Return how to repeat a run, measure its files again and print its report.

    ``folder`` is the run's, in which the paths of the results' files begin.
    """
    commands = [Command("repeat this run", command_line(config))]
    for one in results:
        if one.latency is None or one.latency.kind in ("table", "predicted"):
            continue
        file = str(folder / one.artifacts[0].path)
        line = shlex.join(["hwnas", "benchmark", file, "--target", one.target])
        commands.append(Command("measure the file again", line))
    commands.append(Command("print this report", shlex.join(["hwnas", "report", str(folder)])))
    return tuple(commands)
