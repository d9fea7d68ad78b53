"""What share of the whole network's latency do the delivered files take, measured once more?

    python -m tools.evaluate.pretrained.again --work DIR [--set flowers] [--target host-cpu]

Measures the files of the runs of `tools.evaluate.pretrained.run` in DIR in one session, interleaved
with the whole network's file, and compares their shares with the budgets, which are shares of the
whole network's latency too. Runs that were made on a busy machine are checked on a quiet one.
Writes ``results/again.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click

import hwnas
from hwnas.report.report import Report
from tools.evaluate.pretrained.rows import DELIVERED, MEMBER, WHOLE
from tools.evaluate.pretrained.runs import TARGETS
from tools.lib.options import work_option
from tools.lib.results import command, results_folder, table, write_results

FILES_A_SESSION = 12
"""Files that are measured beside the whole network's at once."""
MAX_OVER = 0.02
"""Excess over the budget that still counts as kept, as a share of it: two sessions differ by as
much."""


class TrainedFile(NamedTuple):
    """The file of a network that a run trained for a budget."""

    data: str
    target: str
    percent: int
    kind: str
    path: Path
    measured: float
    """Share of the budget that the run measured."""


@click.command()
@work_option
@click.option("--set", "sets", multiple=True, default=("flowers", "signs"), show_default=True)
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
def main(work: Path, sets: tuple[str, ...], targets: tuple[str, ...]) -> None:
    """Measure the files of finished runs again, beside the whole network."""
    lines: list[list[object]] = []
    for name in sets:
        for target in targets:
            files = files_of(work / name, name, target)
            originals = f"cut-*/scenarios/{target}-[0-9]*/original/model.*"
            whole = next((work / name).glob(originals), None)
            if not files or whole is None:
                click.echo(f"{work / name}: no finished run for {target}, it is left out", err=True)
                continue
            lines += _lines(files, shares(whole, files, target))
    if not lines:
        raise click.ClickException(f"{work}: no finished run of any of {', '.join(sets)}")
    titles = ["data", "target", "budget, %", "network", "files", "share of the whole, %"]
    titles += ["of the budget, %", "in the runs, %", f"at most {1 + MAX_OVER:.0%} of the budget"]
    text = table(titles, lines)
    called_as = command(__file__, "--work DIR", *(f"--set {name}" for name in sets))
    note = (
        "Median (smallest to largest) over the files of all seeds. Budgets are shares of the whole "
        "network's latency; all files of a target are measured beside the whole network's file."
    )
    path = results_folder(__file__) / "again.md"
    click.echo(write_results(path, "Latencies measured again", called_as, note, text))


def files_of(folder: Path, data: str, target: str) -> list[TrainedFile]:
    """Return the files of the finished runs in ``folder`` for a target."""
    files: list[TrainedFile] = []
    for scenario in sorted(folder.glob(f"cut-*/scenarios/{target}-[0-9]*%")):
        if not (scenario / "report.json").exists():
            continue
        percent = int(scenario.name.removeprefix(f"{target}-").removesuffix("%"))
        result = Report.read(scenario / "report.json").results[0]
        for row in result.candidates:
            path = next((scenario / "training" / row.digest).glob("model.*"), None)
            if path is None or row.measured_ms is None or not result.budget_ms:
                continue
            kinds = [{"search": MEMBER, "resolution": WHOLE}.get(row.origin, row.origin)]
            kinds += [DELIVERED] * row.chosen
            use = row.measured_ms / result.budget_ms
            files += [TrainedFile(data, target, percent, kind, path, use) for kind in kinds]
    return files


def shares(whole: Path, files: Sequence[TrainedFile], target: str) -> dict[Path, float]:
    """Return the latency of each file over that of the whole network's, measured beside it."""
    paths = list(dict.fromkeys(each.path for each in files))
    measured: dict[Path, float] = {}
    for first in range(0, len(paths), FILES_A_SESSION):
        session = paths[first : first + FILES_A_SESSION]
        results = hwnas.benchmark([whole, *session], target).results
        measured |= {path: row.ratio for path, row in zip(session, results[1:], strict=True)}
    return measured


def _lines(files: Sequence[TrainedFile], share: dict[Path, float]) -> list[list[object]]:
    lines: list[list[object]] = []
    for percent in sorted({each.percent for each in files}, reverse=True):
        for kind in (DELIVERED, MEMBER, WHOLE):
            mine = [each for each in files if (each.percent, each.kind) == (percent, kind)]
            if not mine:
                continue
            own = [100 * share[each.path] for each in mine]
            uses = [100 * value / percent for value in own]
            within = sum(use <= 100 * (1 + MAX_OVER) for use in uses)
            place = [mine[0].data, mine[0].target, percent, kind, len(mine)]
            before = [100 * each.measured for each in mine]
            within_text = f"{within} of {len(mine)}"
            lines.append([*place, _range(own), _range(uses), _range(before), within_text])
    return lines


def _range(values: Sequence[float]) -> str:
    text = f"{median(values):.1f}"
    return f"{text} ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else text


if __name__ == "__main__":
    main()
