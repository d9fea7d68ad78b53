"""Runs of `hwnas specialize` for the tables; each is made once, and an interrupted one
continues."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import msgspec

from hwnas.report.report import Report
from hwnas.specialize.spec import read_spec
from hwnas.specialize.sweep import scenarios, share_supernet

NETWORK = "efficientnet_lite0"
NETWORK_PX = 160
TARGETS = ("host-cpu", "host-cpu-litert")
PERCENTS = (70, 50, 35)

COMPLETE = (0, 5)
"""Exit codes of a run with a report; 5: a budget was missed."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings that all runs of a table have in common."""

    photos: Path
    """Folder of a data set."""
    work: Path
    """Folder of the runs."""
    effort: str
    resolution: int = NETWORK_PX
    """Height and width in which the whole network is tuned, in pixels."""
    targets: tuple[str, ...] = TARGETS
    percents: tuple[int, ...] = PERCENTS
    """Budgets, in percent of the latency of the whole network."""
    siblings: tuple[str, ...] = ()
    """Smaller trained networks that are tuned beside it."""

    def folder(self, kind: str, seed: int) -> Path:
        return self.work / f"{kind}-{seed}"

    def scenario(self, kind: str, seed: int, target: str, percent: int) -> Path:
        """Return the folder of one target and budget of a run."""
        folder = self.folder(kind, seed)
        several = len(self.targets) * len(self.percents) > 1 and kind == "cut"
        return folder / "scenarios" / f"{target}-{percent}%" if several else folder


def cut_run(settings: Settings, seed: int) -> Report:
    """Return the report of the run that cuts the trained network for every target and budget."""
    options = [f"--target={target}" for target in settings.targets]
    options += [f"--budget={','.join(f'{percent}%' for percent in settings.percents)}"]
    options += [f"--siblings={','.join(settings.siblings)}"] if settings.siblings else []
    return _report(settings.folder("cut", seed), [*_start(settings, seed), *options])


def random_run(settings: Settings, seed: int, target: str, percent: int) -> Report:
    """Return the report of a run that draws its members by their latency alone.

    It begins with the tuned network of `cut_run`.
    """
    folder = settings.folder(f"random-{target}-{percent}", seed)
    options = [f"--target={target}", f"--budget={percent}%", "--option=ranking=random"]
    if not (folder / "config.toml").exists():
        source = settings.folder("cut", seed)
        first = scenarios(read_spec(source), source)[0]
        share_supernet(first, first._replace(folder=folder))
    return _report(folder, [*_start(settings, seed), *options])


def scratch_run(
    settings: Settings, seed: int, target: str, percent: int, budget_ms: float, minutes: float
) -> Report:
    """Return the report of a search from scratch for a budget, in so many minutes."""
    options = [
        f"--data={settings.photos}",
        "--from=scratch",
        f"--target={target}",
        f"--budget={budget_ms:.5g}ms",
        f"--minutes={max(1.0, minutes):.3g}",
        f"--seed={seed}",
    ]
    return _report(settings.folder(f"scratch-{target}-{percent}", seed), options)


def _start(settings: Settings, seed: int) -> list[str]:
    return [
        f"--data={settings.photos}",
        f"--from={NETWORK}",
        f"--effort={settings.effort}",
        f"--resolution={settings.resolution}",
        f"--seed={seed}",
    ]


def _report(folder: Path, options: list[str]) -> Report:
    """Return the report of the run in ``folder``; if there is none, the run is started or
    continued."""
    if not (folder / "report.json").exists():
        click.echo(f"{folder.name}: {' '.join(options)}", err=True)
        begun = (folder / "config.toml").exists()
        own = ["--resume"] if begun else options
        command = [sys.executable, "-m", "hwnas", "specialize", *own, "--quiet", f"--out={folder}"]
        with open(folder.with_suffix(".log"), "ab") as log:
            status = subprocess.run(command, stdout=log, stderr=log).returncode
        if status not in COMPLETE:
            raise click.ClickException(
                f"{folder}: hwnas specialize ended with {status}; see {log.name}. The same command "
                "goes on where it stopped"
            )
    return Report.read(folder / "report.json")
