"""A cut network or the whole one at a lower resolution: by which rule should a run choose?

    python -m tools.evaluate.pretrained.choice --work DIR [--set flowers] [--splits 400]

Takes the networks that the runs of `tools.evaluate.pretrained.run` in DIR trained for each budget,
and computes the outputs of both networks on validation and test photos together. One half of these
photos, drawn at random, chooses by each rule; the other half tells how much better the choice is
than the whole network. Writes ``results/choice.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch

from hwnas.report.report import Report
from tools.evaluate.pretrained.criteria import SCORES, Values, logits_of, scores_of
from tools.lib.options import work_option
from tools.lib.results import command, results_folder, table, write_results

ACCURACY, PROBABILITY = SCORES[0], SCORES[-1]
MIRRORED = "probability of the label, photos and mirror images"
PREFERENCES = {
    f"{PROBABILITY}; the whole network must be better by a standard error": 1.0,
    f"{PROBABILITY}; by two": 2.0,
    "always the cut network": float("inf"),
}
"""Rules that take the whole network only if it is better by this many standard errors."""
FEWER = (0.25, 0.125)
"""Other shares of the photos by which a rule chooses, beside a half."""


class Pair(NamedTuple):
    """Scores of a cut network minus those of the whole network, for each photo."""

    data: str
    difference: Mapping[str, Values]
    accuracy: float
    """The higher accuracy of the two networks."""


@click.command()
@work_option
@click.option("--set", "sets", multiple=True, default=("flowers", "signs"), show_default=True)
@click.option("--splits", default=400, show_default=True, help="Random halves of each pair.")
def main(work: Path, sets: tuple[str, ...], splits: int) -> None:
    """Compare rules by the accuracy of the networks that they choose."""
    torch.set_num_threads(1)
    lines: list[list[object]] = []
    counts: list[str] = []
    for name in sets:
        pairs = list(pairs_of(work / name, name))
        counts.append(f"{len(pairs)} pairs ({name})")
        lines += [[name, *line] for line in _lines(pairs, splits)] if pairs else []
    if not lines:
        raise click.ClickException(f"{work}: no run trained a cut and a whole network")
    titles = ["data", "rule", "gain over the whole network, points", "better one chosen, %"]
    titles += ["cut network chosen, %"]
    note = (
        f"{', '.join(counts)} of one budget each, {splits} random halves of the photos. Pairs "
        "share networks and photos, so that differences of a tenth of a point mean little."
    )
    called_as = command(__file__, "--work DIR", *(f"--set {name}" for name in sets))
    path = results_folder(__file__) / "choice.md"
    title = "Rules that choose between a cut and a whole network"
    click.echo(write_results(path, title, called_as, note, table(titles, lines)))


def pairs_of(folder: Path, data: str) -> Iterator[Pair]:
    """Yield every pair of networks that a run in ``folder`` trained for a budget, once."""
    seen: set[tuple[str, str, str]] = set()
    for path in sorted(folder.glob("cut-*/scenarios/*/report.json")):
        rows = Report.read(path).results[0].candidates
        trained = [row for row in rows if (path.parent / "training" / row.digest).is_dir()]
        cut, whole = (
            [row.digest for row in trained if row.origin == origin]
            for origin in ("search", "resolution")
        )
        for first, second in product(cut, whole):
            if (key := (path.parents[2].name, first, second)) not in seen:
                seen.add(key)
                root = path.parent / "training"
                yield pair(data, _scores(root / first), _scores(root / second))


def pair(data: str, cut: Mapping[str, Values], whole: Mapping[str, Values]) -> Pair:
    difference = {score: cut[score] - whole[score] for score in cut}
    return Pair(data, difference, max(each[ACCURACY].mean() for each in (cut, whole)))


def _scores(folder: Path) -> dict[str, Values]:
    logits, labels = logits_of(folder)
    mirrored = scores_of(logits_of(folder, mirrored=True)[0], labels)
    scores = scores_of(logits, labels)
    return {**scores, MIRRORED: (scores[PROBABILITY] + mirrored[PROBABILITY]) / 2}


def _lines(pairs: list[Pair], splits: int) -> Iterator[list[object]]:
    """Yield the rows of one set of photos."""
    outcomes: dict[str, list[tuple[float, float, bool]]] = {}
    for each in pairs:
        for rule, values in decisions(each, splits).items():
            outcomes.setdefault(rule, []).extend(values)
    for rule, values in outcomes.items():
        gains, advantages, cut = (np.array(column) for column in zip(*values, strict=True))
        right = (advantages > 0) == cut
        shares = [f"{100 * np.mean(part):.0f}" for part in (right[advantages != 0], cut)]
        yield [rule, f"{100 * np.mean(gains):+.2f}", *shares]


def decisions(pair: Pair, splits: int) -> dict[str, list[tuple[float, float, bool]]]:
    """Return, for each rule and split, the gain in accuracy over the whole network, the cut
    network's advantage, and whether that was chosen."""
    rng = np.random.default_rng(0)
    results: dict[str, list[tuple[float, float, bool]]] = {}

    def add(rule: str, takes_cut: bool, advantage: float) -> None:
        results.setdefault(rule, []).append((advantage * takes_cut, advantage, takes_cut))

    for _ in range(splits):
        order = rng.permutation(len(pair.difference[ACCURACY]))
        choosing, judging = np.array_split(order, 2)
        advantage = float(pair.difference[ACCURACY][judging].mean())
        for score in (ACCURACY, PROBABILITY, MIRRORED):
            add(score, bool(pair.difference[score][choosing].mean() > 0), advantage)
        for share in FEWER:
            few = order[: round(share * len(order))]
            rule = f"{PROBABILITY}, {share / 0.5:g} of the photos"
            add(rule, bool(pair.difference[PROBABILITY][few].mean() > 0), advantage)
        error = (pair.accuracy * (1 - pair.accuracy) / len(choosing)) ** 0.5
        for rule, errors in PREFERENCES.items():
            mean = float(pair.difference[PROBABILITY][choosing].mean())
            add(rule, mean >= -errors * error, advantage)
    return results


if __name__ == "__main__":
    main()
