"""The latency model on published measurements, beside plain methods.

    python -m tools.evaluate.latency_published.run PART [--data DIR] [--work DIR] [--seeds N]

PART: ``columns``, ``transfer`` (both with ``--bench NAME``), ``ten-cells``, ``tables``, ``cnn`` or
``repeats``.

``columns``: predict a device from a few of its networks. ``transfer``: the same with block tables
of other devices. ``ten-cells``: a device from ten cells, by the rules of HELP. ``tables``: predict
hidden blocks or resolutions of a published table, and published networks from tables. ``cnn``:
predict a family of real networks on phones from the other families. ``repeats``: the difference
between two measurements of equal networks, which bounds every prediction.

Each writes its tables to results/PART.md (``--json OUT``: the figures, too). Finished work stays in
``--work``, from where an interrupted run continues; ``--seeds 0`` writes the tables of what is
there. README.md in the folder of the data says what the data are and where they come from.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.evaluate.latency_published import columns as columns_part
from tools.evaluate.latency_published import repeats as repeats_part
from tools.evaluate.latency_published import tables as tables_part
from tools.evaluate.latency_published import ten_cells as ten_cells_part
from tools.evaluate.latency_published import transfer as transfer_part
from tools.evaluate.latency_published.mobile import fbnet, ofa
from tools.evaluate.latency_published.nb201 import nb201, oneproxy
from tools.lib.latency.bench import Bench
from tools.lib.latency.score import Cache
from tools.lib.options import data_option, json_option, seeds_option
from tools.lib.results import sections, write_part

TITLE = "Latency model on published measurements"
BENCHES: dict[str, Callable[[Path], Bench]] = {
    "nb201": nb201,
    "fbnet": fbnet,
    "ofa": ofa,
    "oneproxy": oneproxy,
}
SUM_COLUMNS = {"fbnet": ("pixel3",)}
"""Columns that are sums of block timings by construction: a good score there proves nothing."""


def cached(function: Callable[..., None]) -> Callable[..., Any]:
    """Add the options of the parts that cache their work."""
    cache = click.option(
        "--work", default=Path("build/evaluate_latency"), type=click.Path(path_type=Path)
    )
    return data_option(cache(seeds_option(20, minimum=0)(json_option(function))))


few_option = click.option(
    "--few", default=5, show_default=True, help="Seeds of the slow methods and columns."
)


def bench_option(*default: str) -> Callable[[Callable[..., None]], Callable[..., Any]]:
    """Return ``--bench``, the published set of networks."""
    names = click.Choice(list(BENCHES))
    return click.option(
        "--bench", "benches", multiple=True, default=default, show_default=True, type=names
    )


@click.group()
def cli() -> None:
    """Evaluate the latency model on published measurements."""


@cli.command()
@cached
@few_option
@bench_option(*BENCHES)
def columns(
    data: Path, work: Path, seeds: int, few: int, benches: tuple[str, ...], out: Path | None
) -> None:
    """Predict every device column from a few of its networks."""
    for name in benches:
        bench, cache, used = _bench(name, data, work / f"{name}.jsonl")
        columns_part.run(bench, cache, columns_part.COUNTS, seeds, few, used)
        text = (
            f"K measured networks of {len(bench.rows)}, {columns_part.TEST_NETWORKS} others "
            "predicted; means over the number of seeds in the table. The plain methods are fitted "
            f"to the random networks. {NOTES[name]}"
        )
        parts = columns_part.sections(bench, cache, used)
        click.echo(
            write_part(
                __file__,
                name,
                TITLE,
                f"columns --bench {name}",
                text,
                sections(parts),
                figures=cache.rows,
                out=out,
            )
        )


@cli.command()
@cached
@bench_option("fbnet", "nb201")
def transfer(
    data: Path, work: Path, seeds: int, benches: tuple[str, ...], out: Path | None
) -> None:
    """Predict a device from a few of its networks and block tables of other devices."""
    for name in benches:
        bench, cache, used = _bench(name, data, work / f"transfer_{name}.jsonl")
        transfer_part.run(bench, cache, seeds, used)
        text = (
            f"K chosen networks of a device, {columns_part.TEST_NETWORKS} others predicted, with "
            "block tables of other devices, each fitted to "
            f"{transfer_part.TABLE_NETWORKS} networks measured there. The device itself at another "
            f"batch size is never among them. {NOTES[name]}"
        )
        parts = transfer_part.sections(bench, cache, used)
        click.echo(
            write_part(
                __file__,
                f"transfer_{name}",
                TITLE,
                f"transfer --bench {name}",
                text,
                sections(parts),
                figures=cache.rows,
                out=out,
            )
        )


@cli.command("ten-cells")
@cached
def ten_cells(data: Path, work: Path, seeds: int, out: Path | None) -> None:
    """Predict NAS-Bench-201 on a device from ten of its cells, as HELP does."""
    bench, cache = nb201(data), Cache(work / "ten_cells.jsonl")
    ten_cells_part.run(bench, data, cache, seeds)
    text = (
        f"{ten_cells_part.CELLS} cells of a device and nothing of other devices, {seeds} seeds "
        f"(one for {ten_cells_part.OWN_CELLS}); all other cells with a live path are predicted. In "
        "brackets: without a tenth of the cells at each end of the latencies, as HELP scores. "
        "HELP also has 900 cells of each of other devices. Its figures are those of the paper, "
        "on devices that are not among these columns: they say how hard such devices "
        "were, not which method is better."
    )
    parts = [ten_cells_part.section(bench, cache)]
    click.echo(
        write_part(
            __file__,
            "ten-cells",
            TITLE,
            f"ten-cells --seeds {seeds}",
            text,
            sections(parts),
            figures=cache.rows,
            out=out,
        )
    )


@cli.command()
@cached
def tables(data: Path, work: Path, seeds: int, out: Path | None) -> None:
    """Hide blocks and resolutions of published tables; predict published networks."""
    cache = Cache(work / "tables.jsonl")
    parts = [
        tables_part.hidden_blocks_section(data, cache, seeds),
        tables_part.resolutions_section(data, cache),
        *tables_part.networks_sections(data),
    ]
    text = (
        "Errors and coverage are those of blocks in the first two tables and of whole networks in "
        "the others. Latencies of published networks are whole milliseconds; the adapted model of "
        "the Pixel 1 is the shipped one, which also has 22 MobileNetV2 with older software. Random "
        "forests of blocks: one for each kind of block, as nn-Meter predicts kernels (of which it "
        "has thousands), fitted to the same rows."
    )
    click.echo(
        write_part(
            __file__,
            "tables",
            TITLE,
            f"tables --seeds {seeds}",
            text,
            sections(parts),
            figures=cache.rows,
            out=out,
        )
    )


@cli.command()
@cached
@few_option
def cnn(data: Path, work: Path, seeds: int, few: int, out: Path | None) -> None:
    """Predict a family of real networks from a few networks of other families."""
    from tools.evaluate.latency_published import cnn as cnn_part

    cache = Cache(work / "cnn.jsonl")
    bench, names = cnn_part.phones(data, work)
    cnn_part.run(bench, names, cache, seeds, few)
    text = (
        f"{len(names)} networks in {len(cnn_part.FAMILIES)} families "
        f"({', '.join(cnn_part.FAMILIES)}). Every family is predicted by a model of K networks of "
        f"the others, each seed's from a random {cnn_part.POOL_SHARE:.0%} of them; the figures "
        "are over all networks. Operators are analysed from definitions by pytorchcv, at "
        "224 x 224, as TFLite's converter fuses them."
    )
    click.echo(
        write_part(
            __file__,
            "cnn",
            TITLE,
            "cnn",
            text,
            sections(cnn_part.sections(bench, cache)),
            figures=cache.rows,
            out=out,
        )
    )


@cli.command()
@data_option
def repeats(data: Path) -> None:
    """Compare measurements of equal networks: the noise that no prediction can remove."""
    text = (
        "Cells of NAS-Bench-201 that compute the same with the same operations, each measured "
        "separately; one pair of each group is drawn, and the figures are means of "
        f"{repeats_part.DRAWS} draws. A prediction of the true latency correlates with one "
        "measurement as the square root of the correlation of two at most. Noise: standard "
        "deviation of the logarithm of one measurement. Groups differ in their range of latencies "
        "from all cells, so a model may come out somewhat above (pixel3, whose noise has outliers)."
    )
    click.echo(
        write_part(
            __file__,
            "nb201_repeats",
            TITLE,
            "repeats",
            text,
            sections([repeats_part.section(nb201(data), data)]),
        )
    )


def _bench(name: str, data: Path, path: Path) -> tuple[Bench, Cache, list[str]]:
    """Return a bench, its cache and the columns that are evaluated."""
    bench = BENCHES[name](data)
    columns = [column for column in bench.ms if column not in SUM_COLUMNS.get(name, ())]
    return bench, Cache(path), columns


NOTES = {
    "nb201": "Cells without a path from input to output are excluded (341), none by its latency. "
    "essential_ph_1 and samsung_a50 are whole milliseconds: rounding alone costs points of ±10 %.",
    "fbnet": "pixel3 is excluded: it is a sum of block timings by construction and proves nothing. "
    "essential_ph_1 and samsung_a50 are whole milliseconds.",
    "ofa": "Latency of a batch in ms. Batch 1 of both GPUs, and batch 32 of one, has two modes 10 "
    "to 40 % apart at equal networks: no method can predict which.",
    "oneproxy": "true_630 is nn-Meter's ground truth (Adreno 630), eagle_* is LatBench's. The "
    "column rice_pixel3 is excluded: it is pixel3 of nb201.",
}

if __name__ == "__main__":
    cli()
