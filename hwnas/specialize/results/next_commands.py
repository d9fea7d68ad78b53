"""What to type next, at the end of a run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from hwnas.report.schema import Command, Result
from hwnas.specialize.run_folder import Config, command_line


def next_commands(config: Config, folder: Path, results: Iterable[Result]) -> tuple[Command, ...]:
    """Return how to hand over the files of a run, measure them again and repeat the run.

    ``folder`` is the run's, in which the paths of the results' files begin.
    """
    commands: list[Command] = []
    for one in results:
        if not one.artifacts or one.latency is None:
            continue
        run = str(result_folder(folder, one))
        if one.latency.kind in ("table", "predicted"):
            line = shlex.join(["hwnas", "deploy", run, "--no-device"])
            commands.append(Command("bundle the model for the device", line))
            continue
        if one.latency.kind != "simulated":
            line = shlex.join(["hwnas", "deploy", run])
            commands.append(Command("bundle the model and try it on the device", line))
        file = str(folder / one.artifacts[0].path)
        line = shlex.join(["hwnas", "benchmark", file, "--target", one.target])
        commands.append(Command("measure the file again", line))
    commands.append(Command("repeat this run", command_line(config)))
    commands.append(Command("print this report", shlex.join(["hwnas", "report", str(folder)])))
    return tuple(commands)


def result_folder(run: Path, result: Result) -> Path:
    """Return the run of one target and budget that a result of a larger run is from."""
    return (run / result.artifacts[0].path).parent.parent
