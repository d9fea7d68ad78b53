"""Does a run with ``--minutes M`` take M minutes?

    python -m tools.bench.minutes --work /tmp/bench-minutes --photos DIR

Runs ``hwnas train`` and ``hwnas specialize`` with ``--minutes M`` on Fashion-MNIST and on a folder
of photos, one after another, and compares their time with M. Time in which other programs suspend
the run (SIGSTOP) is measured and taken off. Writes ``results/minutes.md``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import NamedTuple

import click

from hwnas.processes import cores
from tools.lib.options import PATH, out_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "minutes.md"
GOAL = 0.15
"""Largest difference from the minutes, as a share of them."""
POLL_S, SUSPENDED_S = 0.05, 0.25
"""Time between two looks at a run, and from which a gap between them means a suspension: what
suspends the run suspends this program too."""


SEARCHES = "specialize, Fashion-MNIST", "specialize, photos"


class Run(NamedTuple):
    """A command that ran."""

    plan: str
    """What it planned, in its own words."""
    wall_s: float
    suspended_s: float
    processor_s: float


@click.command()
@work_option
@click.option("--photos", required=True, type=PATH, help="Folder of photos.")
@click.option("--minutes", default=5.0, show_default=True, type=click.FloatRange(1))
@out_option(RESULTS)
def main(work: Path, photos: Path, minutes: float, out: Path) -> None:
    """Compare the time of runs with the minutes that they were given."""
    searched = work / _folder(SEARCHES[0])
    commands = {
        SEARCHES[0]: ["specialize", "--data", "fashion-mnist"],
        "train, Fashion-MNIST": [
            *("train", "--data", "fashion-mnist", "--architecture", str(searched))
        ],
        SEARCHES[1]: ["specialize", "--data", str(photos), "--space", "mobile"],
        "train, photos": ["train", "--data", str(photos), "--architecture", "mobilenet_v2"],
    }
    rows: list[tuple[object, ...]] = []
    for name, arguments in commands.items():
        folder = work / _folder(name)
        run = run_command([*arguments, "--minutes", str(minutes), "--out", str(folder)], folder)
        taken_s = run.wall_s - run.suspended_s
        off = f"{100 * (taken_s / (60 * minutes) - 1):+.0f} %"
        rows.append((name, taken_s / 60, off, run.suspended_s / 60, run.processor_s / 60, run.plan))
        click.echo(f"{name}: {rows[-1][1:]}")
    titles = ("run", "min", "off by", "suspended min", "processor min", "planned")
    text = write_results(
        out,
        f"Runs of {minutes:g} minutes",
        command(__file__, "--work DIR", "--photos DIR", f"--minutes {minutes:g}"),
        f"On {cores()} cores, one run after another. Time is that of the clock without the time in "
        f"which the run was suspended. Goal: within {100 * GOAL:.0f} %.",
        table(titles, rows),
    )
    click.echo(text)


def _folder(name: str) -> str:
    return name.replace(", ", "-").lower()


def run_command(arguments: list[str], folder: Path) -> Run:
    """Run a command of hwnas in an empty ``folder``. Raises `CalledProcessError` if it fails."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_suffix(".log")
    before_s, start, suspended_s = _processor_s(), time.monotonic(), 0.0
    with log.open("w") as stream:
        program = [sys.executable, "-m", "hwnas", *arguments]
        process = subprocess.Popen(program, stdout=stream, stderr=subprocess.STDOUT)
        seen = time.monotonic()
        while process.poll() is None:
            time.sleep(POLL_S)
            now = time.monotonic()
            if now - seen > SUSPENDED_S:
                suspended_s += now - seen
            seen = now
    wall_s = time.monotonic() - start
    if process.returncode not in (0, 5, 6):  # a budget that is missed takes as long
        raise subprocess.CalledProcessError(process.returncode, program, log.read_text())
    return Run(planned(log.read_text()), wall_s, suspended_s, _processor_s() - before_s)


def planned(output: str) -> str:
    """Return the plan that a run printed, empty if there is none."""
    line = re.search(r"^[\d.]+ min: (.*)$", output, re.MULTILINE)
    return line[1] if line else ""


def _processor_s() -> float:
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
