"""`kill -9` at random moments, then `--resume`: does the run reach the same result?

    python -m tools.evaluate.faults.kill_and_resume --work DIR \
        [--kills 10] [--target host-cpu] [--effort trial] [--from NETWORK --data PHOTOS]

One run is not interrupted. Each of the others is killed at a random moment (with all its child
processes) and resumed; the architecture's digest and the sha256 of the model file are compared.
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
from pathlib import Path
from random import Random

import click
import msgspec

from hwnas.files import write_json
from hwnas.report.report import Report
from tools.lib.options import json_option, work_option
from tools.lib.results import command, results_folder, table, write_results


class Row(msgspec.Struct, frozen=True):
    """One run."""

    killed_after_s: float | None
    """``None``: not interrupted."""
    during: str
    """The newest file at that moment."""
    digest: str
    sha256: str


@click.command()
@work_option
@click.option("--kills", default=10, show_default=True)
@click.option("--target", default="host-cpu", show_default=True)
@click.option("--effort", default="trial", show_default=True)
@click.option("--from", "network", default="", help="Trained network to cut.")
@click.option("--data", default="", help="Data set.")
@click.option("--resolution", default="", help="Of the images.")
@json_option
def main(
    work: Path,
    kills: int,
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
    uninterrupted, duration_s = _uninterrupted(work / "alone", words)
    rng = Random(0)
    rows = [uninterrupted]
    for number in range(kills):
        moment_s = rng.uniform(0.02, 0.98) * duration_s
        rows.append(_killed(work / f"killed-{number}", words, moment_s))
        click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    expected = uninterrupted.digest, uninterrupted.sha256
    same = sum((row.digest, row.sha256) == expected for row in rows[1:])
    called_as = command(__file__, f"--work DIR --kills {kills} {shlex.join(options)}")
    text = f"{same} of {kills} killed runs reach the architecture and the weights of the first."
    titles = ["killed after s", "newest file", "architecture", "model file"]
    lines = [
        [str(row.killed_after_s or "not interrupted"), row.during, row.digest, row.sha256]
        for row in rows
    ]
    name = f"kill_and_resume_{target}{'_from' * bool(network)}.md"
    path = results_folder(__file__) / name
    title = f"Kill and resume: {target}"
    click.echo(write_results(path, title, called_as, text, table(titles, lines)))
    if out is not None:
        write_json(out, rows)
    sys.exit(0 if same == kills else 1)


def _uninterrupted(folder: Path, words: list[str]) -> tuple[Row, float]:
    cached = folder / "seconds.json"
    if not cached.exists():
        start = time.monotonic()
        _run([*words, "--out", str(folder)]).wait()
        write_json(cached, time.monotonic() - start)
    return _row(folder, None, ""), msgspec.json.decode(cached.read_bytes(), type=float)


def _killed(folder: Path, words: list[str], moment_s: float) -> Row:
    cached = folder / "row.json"
    if cached.exists():
        return msgspec.json.decode(cached.read_bytes(), type=Row)
    process = _run([*words, "--out", str(folder)])
    time.sleep(moment_s)
    during = _newest(folder)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    started = (folder / "config.toml").exists()
    again = ["specialize", "--quiet", "--resume"] if started else words
    _run([*again, "--out", str(folder)]).wait()
    row = _row(folder, round(moment_s, 1), during)
    write_json(cached, row)
    return row


def _run(words: list[str]) -> subprocess.Popen[bytes]:
    """Start hwnas in a process group of its own."""
    program = [sys.executable, "-m", "hwnas", *words]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL, start_new_session=True)


def _row(folder: Path, killed_after_s: float | None, during: str) -> Row:
    result = Report.read(folder / "report.json").results[0]
    return Row(killed_after_s, during, result.architecture.digest, result.artifacts[0].sha256[:16])


def _newest(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file() and ".tmp" not in path.name]
    if not files:
        return "nothing written"
    newest = max(files, key=lambda path: path.stat().st_mtime).relative_to(folder)
    return str(newest.parent / newest.name)


if __name__ == "__main__":
    main()
