"""`kill -9` at random moments and at every stage, then `--resume`: are the files the same?

    python -m tools.evaluate.faults.kill_and_resume --work DIR \
        [--kills 10] [--stages 0] [--target host-cpu] [--effort trial] \
        [--from NETWORK --data PHOTOS --resolution PX]

One run is not interrupted. Each of the others is killed (with all its child processes) and resumed:
``--kills`` at random moments, and ``--stages`` as soon as a file appears that the first run wrote;
these files are spread evenly over its course. Then the architecture's digest, the sha256 of the
model file, and one digest of all weights and model files in the run's folder are compared.
With ``--from`` the runs tune and cut a trained network.
Writes results/kill_and_resume_TARGET.md, with ``--from`` results/kill_and_resume_TARGET_from.md.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from random import Random

import click
import msgspec

from hwnas.files import write_json
from hwnas.report.report import Report
from tools.lib.options import json_option, work_option
from tools.lib.results import command, results_folder, table, write_results

SUFFIXES = (".safetensors", ".onnx", ".tflite")
"""Suffixes of the files that must be the same, byte by byte."""
POLL_S = 0.01


class Row(msgspec.Struct, frozen=True):
    """One run."""

    killed: str
    """Moment of the kill; empty: not interrupted."""
    during: str
    """The newest file at the moment of the kill."""
    digest: str
    sha256: str
    files: int
    """Files of `SUFFIXES` in the run's folder."""
    contents: str
    """Digest of the names and contents of `files`."""


class Course(msgspec.Struct, frozen=True):
    """The run that is not interrupted."""

    seconds: float
    appeared: tuple[str, ...]
    """The files in the order in which they appeared, also those that were removed later."""


@click.command()
@work_option
@click.option("--kills", default=10, show_default=True, help="At random moments.")
@click.option("--stages", default=0, show_default=True, help="At the first sight of a file.")
@click.option("--target", default="host-cpu", show_default=True)
@click.option("--effort", default="trial", show_default=True)
@click.option("--from", "network", default="", help="Trained network to cut.")
@click.option("--data", default="", help="Data set.")
@click.option("--resolution", default="", help="Of the images.")
@json_option
def main(
    work: Path,
    kills: int,
    stages: int,
    target: str,
    effort: str,
    network: str,
    data: str,
    resolution: str,
    out: Path | None,
) -> None:
    """Kill and resume; print a table."""
    given = {"--from": network, "--data": data, "--resolution": resolution}
    more = [word for option, value in given.items() if value for word in (option, value)]
    options = ["--target", target, "--effort", effort, *more]
    words = ["specialize", "--quiet", *options]
    course = _uninterrupted(work / "alone", words)
    rng, rows = Random(0), [_row(work / "alone", "", "")]
    moments = [rng.uniform(0.02, 0.98) * course.seconds for _ in range(kills)]
    moments += spread(course.appeared, stages)
    for number, moment in enumerate(moments):
        rows.append(_killed(work / f"killed-{number}", words, moment))
        click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    same = sum(outcome(row) == outcome(rows[0]) for row in rows[1:])
    shown = shlex.join(_without_path(options, data))
    called_as = command(__file__, f"--work DIR --kills {kills} --stages {stages} {shown}")
    text = (
        f"{same} of {len(moments)} killed runs end with the architecture and all {rows[0].files} "
        "files of weights and models of the first, byte by byte."
    )
    titles = ["killed", "newest file", "architecture", "model file", "files", "all files"]
    lines = [[row.killed or "not interrupted", row.during, *map(str, outcome(row))] for row in rows]
    name = f"kill_and_resume_{target}{'_from' * bool(network)}.md"
    path = results_folder(__file__) / name
    title = f"Kill and resume: {target}"
    click.echo(write_results(path, title, called_as, text, table(titles, lines)))
    if out is not None:
        write_json(out, rows)
    sys.exit(0 if same == len(moments) else 1)


def spread(appeared: Sequence[str], count: int) -> list[str]:
    """Return up to ``count`` of the files, evenly spaced in their order."""
    count = min(count, len(appeared))
    return [appeared[(2 * number + 1) * len(appeared) // (2 * count)] for number in range(count)]


def outcome(row: Row) -> tuple[str, str, int, str]:
    """Return the results that must be equal in all runs."""
    return row.digest, row.sha256, row.files, row.contents


def _without_path(options: list[str], data: str) -> list[str]:
    """Return options with the name of the data's folder in the place of its path."""
    return [Path(word).name if data and word == data else word for word in options]


def _uninterrupted(folder: Path, words: list[str]) -> Course:
    cached = folder / "course.json"
    if not cached.exists():
        start, appeared = time.monotonic(), dict[str, None]()
        process = _run([*words, "--out", str(folder)])
        while process.poll() is None:
            appeared |= dict.fromkeys(_files(folder))
            time.sleep(POLL_S)
        write_json(cached, Course(time.monotonic() - start, tuple(appeared)))
    return msgspec.json.decode(cached.read_bytes(), type=Course)


def _killed(folder: Path, words: list[str], moment: float | str) -> Row:
    """Kill a run after so many seconds, or at the first sight of a file, and resume it."""
    cached = folder / "row.json"
    if cached.exists():
        return msgspec.json.decode(cached.read_bytes(), type=Row)
    process = _run([*words, "--out", str(folder)])
    if isinstance(moment, str):
        killed = f"at {moment}"
        while not (folder / moment).exists() and process.poll() is None:
            time.sleep(POLL_S / 10)
    else:
        killed = f"after {moment:.1f} s"
        time.sleep(moment)
    during = next(iter(_files(folder)), "nothing written")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    started = (folder / "config.toml").exists()
    again = ["specialize", "--quiet", "--resume"] if started else words
    _run([*again, "--out", str(folder)]).wait()
    row = _row(folder, killed, during)
    write_json(cached, row)
    return row


def _run(words: list[str]) -> subprocess.Popen[bytes]:
    """Start hwnas in a process group of its own."""
    program = [sys.executable, "-m", "hwnas", *words]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, start_new_session=True)


def _row(folder: Path, killed: str, during: str) -> Row:
    result = Report.read(folder / "report.json").results[0]
    names = [name for name in sorted(_files(folder)) if name.endswith(SUFFIXES)]
    contents = sha256()
    for name in names:
        contents.update(f"{name} {sha256((folder / name).read_bytes()).hexdigest()}\n".encode())
    return Row(
        killed,
        during,
        result.architecture.digest,
        result.artifacts[0].sha256[:16],
        len(names),
        contents.hexdigest()[:16],
    )


def _files(folder: Path) -> list[str]:
    """Return the files in a folder that are written completely, the newest first."""
    times: dict[str, float] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # removed in between
            if path.is_file() and ".tmp" not in path.name and not path.name.endswith(".part"):
                times[path.relative_to(folder).as_posix()] = path.stat().st_mtime
    return sorted(times, key=lambda name: -times[name])


if __name__ == "__main__":
    main()
