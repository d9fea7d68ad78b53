"""The commands that a report suggests."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path

from hwnas.report.schema import NextCommand, Result
from hwnas.specialize.command_line import command_line
from hwnas.specialize.spec import RunSpec


def next_commands(
    spec: RunSpec, folder: Path, results: Iterable[Result]
) -> tuple[NextCommand, ...]:
    """Return the commands that deploy the files of a run, measure them again and repeat the run.

    ``folder`` is that of the run, to which the paths of the results' files are relative.
    """
    commands: list[NextCommand] = []
    for result in results:
        if not result.artifacts or result.latency is None:
            continue
        run_folder = str(result_folder(folder, result))
        if result.latency.kind in ("table", "predicted"):
            line = shlex.join(["hwnas", "deploy", run_folder, "--no-device"])
            commands.append(NextCommand("bundle the model for the device", line))
            continue
        if result.latency.kind != "simulated":
            line = shlex.join(["hwnas", "deploy", run_folder])
            commands.append(NextCommand("bundle the model and try it on the device", line))
        if result.agreement is None and not spec.group_by:  # it divides images without groups
            words = ["hwnas", "evaluate", run_folder, "--data", spec.data]
            line = shlex.join([*words, *["--skip-broken"] * spec.skip_broken])
            commands.append(NextCommand("see each class, and the worst images", line))
        file = str(folder / result.artifacts[0].path)
        line = shlex.join(["hwnas", "benchmark", file, "--target", _given(spec, result.target)])
        commands.append(NextCommand("measure the file again", line))
    commands.append(NextCommand("repeat this run", command_line(spec)))
    commands.append(NextCommand("print this report", shlex.join(["hwnas", "report", str(folder)])))
    return tuple(commands)


def _given(spec: RunSpec, name: str) -> str:
    """Return the device as in the run's specification: a name, or the file of its profile."""
    return next((each for each in spec.targets if Path(each).stem == name), name)


def result_folder(run: Path, result: Result) -> Path:
    """Return the folder of the scenario that a result of ``run`` comes from."""
    return (run / result.artifacts[0].path).parent.parent
