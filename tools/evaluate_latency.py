"""The latency model on published measurements, beside plain methods.

    python tools/evaluate_latency.py columns  [--data DIR] [--bench NAME] [--work DIR]
    python tools/evaluate_latency.py transfer [--data DIR]

Each part prints its tables and writes them to tools/results/latency_PART.md (``--json OUT``: the
figures as JSON too). ``columns`` keeps what it did in ``--work`` and goes on there. What the data
are, and where they come from: README.md in the folder of the data.
"""

from __future__ import annotations

from pathlib import Path

import click
from latency_data import columns as columns_part
from latency_data.mobile import fbnet, ofa
from latency_data.nb201 import nb201, oneproxy
from latency_data.score import Cache, write

from hwnas.files import write_json

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
BENCHES = {"nb201": nb201, "fbnet": fbnet, "ofa": ofa, "oneproxy": oneproxy}
SUMS = {"fbnet": ("pixel3",)}
"""Columns that are sums of block timings by construction: a good score there proves nothing."""

data_option = click.option(
    "--data", default=DATA, type=click.Path(exists=True, path_type=Path), help="Published data."
)
json_option = click.option("--json", "out", type=click.Path(path_type=Path))


@click.group()
def cli() -> None:
    """Evaluate the latency model on published measurements."""


@cli.command()
@data_option
@json_option
@click.option("--bench", "benches", multiple=True, default=tuple(BENCHES), show_default=True)
@click.option("--work", default=Path("build/evaluate_latency"), type=click.Path(path_type=Path))
@click.option("--seeds", default=20, show_default=True)
@click.option("--few", default=5, show_default=True, help="Seeds of what is slow.")
def columns(
    data: Path, out: Path | None, benches: tuple[str, ...], work: Path, seeds: int, few: int
) -> None:
    """Predict every device column from few of its networks."""
    for name in benches:
        bench = BENCHES[name](data)
        used = [column for column in bench.ms if column not in SUMS.get(name, ())]
        cache = Cache(work / f"{name}.jsonl")
        columns_part.run(bench, cache, columns_part.COUNTS, seeds, few, used)
        text = (
            f"K measured networks of {len(bench.rows)}, {columns_part.TESTED} others predicted. "
            f"Mean of {seeds} seeds, of {few} for random forests and K = {columns_part.LARGE}. "
            "The plain methods see the random networks. " + NOTES[name]
        )
        command = f"python tools/evaluate_latency.py columns --bench {name} --seeds {seeds}"
        found = columns_part.sections(bench, cache, used)
        click.echo(write(name, command, text, found[:1]) if out is None else "")
        write(name, command, text, found)
        if out is not None:
            write_json(out, cache.rows)


NOTES = {
    "nb201": "Cells without a live path are left out (341), none by its latency. essential_ph_1 "
    "and samsung_a50 are whole milliseconds: rounding alone costs points of ±10 %.",
    "fbnet": "pixel3 is left out: it is a sum of block timings by construction and proves nothing. "
    "essential_ph_1 and samsung_a50 are whole milliseconds.",
    "ofa": "Ms of a batch. Batch 1 of both GPUs, and batch 32 of one, has two modes 10 to 40 % "
    "apart at equal networks: no method can predict which.",
    "oneproxy": "true_630 is nn-Meter's ground truth (Adreno 630), eagle_* is LatBench's. The "
    "column rice_pixel3 is left out: it is pixel3 of nb201.",
}

if __name__ == "__main__":
    cli()
