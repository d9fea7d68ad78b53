"""The latency model on published measurements, beside plain methods.

    python -m tools.evaluate.latency_published.run PART [--data DIR] [--work DIR] [--seeds N]

PART: ``columns``, ``transfer`` (both with ``--bench NAME``), ``tables``, ``cnn`` or ``repeats``.

``columns``: few networks of a device known, all others predicted. ``transfer``: block tables of
other devices are known, too. ``tables``: blocks or resolutions of a published table hidden, and
published networks predicted from tables. ``cnn``: real networks on phones, one family left out.
``repeats``: how far two measurements of equal networks differ, which no prediction can better.

Each writes its tables to results/PART.md (``--json OUT``: the figures, too). What was
done is kept in ``--work``; a run that was cut off goes on there, and ``--seeds 0`` writes what is
there. What the data are, and where they come from: README.md in the folder of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from hwnas.files import write_json
from tools.evaluate.latency_published import columns as columns_part
from tools.evaluate.latency_published import repeats as repeats_part
from tools.evaluate.latency_published import tables as tables_part
from tools.evaluate.latency_published import transfer as transfer_part
from tools.evaluate.latency_published.mobile import fbnet, ofa
from tools.evaluate.latency_published.nb201 import nb201, oneproxy
from tools.lib.latency.bench import Bench
from tools.lib.latency.score import Cache, write
from tools.lib.results import SHARED_DATA

DATA = SHARED_DATA
BENCHES: dict[str, Callable[[Path], Bench]] = {
    "nb201": nb201,
    "fbnet": fbnet,
    "ofa": ofa,
    "oneproxy": oneproxy,
}
SUMS = {"fbnet": ("pixel3",)}
"""Columns that are sums of block timings by construction: a good score there proves nothing."""


def options(seeds: int) -> Callable[[Callable[..., None]], Any]:
    """Return the options that all parts have."""
    decorators = [
        click.option("--data", default=DATA, type=click.Path(exists=True, path_type=Path)),
        click.option(
            "--work", default=Path("build/evaluate_latency"), type=click.Path(path_type=Path)
        ),
        click.option("--seeds", default=seeds, show_default=True),
        click.option("--json", "out", type=click.Path(path_type=Path)),
    ]

    def with_all(command: Callable[..., None]) -> Any:
        for decorator in decorators:
            command = decorator(command)
        return command

    return with_all


few_option = click.option("--few", default=5, show_default=True, help="Seeds of what is slow.")


@click.group()
def cli() -> None:
    """Evaluate the latency model on published measurements."""


@cli.command()
@options(seeds=20)
@few_option
@click.option("--bench", "benches", multiple=True, default=tuple(BENCHES), show_default=True)
def columns(
    data: Path, work: Path, seeds: int, few: int, benches: tuple[str, ...], out: Path | None
) -> None:
    """Predict every device column from few of its networks."""
    for name in benches:
        bench, cache, used = _bench(name, data, work / f"{name}.jsonl")
        columns_part.run(bench, cache, columns_part.COUNTS, seeds, few, used)
        text = (
            f"K measured networks of {len(bench.rows)}, {columns_part.TESTED} others predicted; "
            "means over the seeds that are named. The plain methods see the random networks. "
            + NOTES[name]
        )
        sections = columns_part.sections(bench, cache, used)
        _write(name, f"columns --bench {name}", text, sections, cache, out)


@cli.command()
@options(seeds=20)
@click.option("--bench", "benches", multiple=True, default=("fbnet", "nb201"), show_default=True)
def transfer(
    data: Path, work: Path, seeds: int, benches: tuple[str, ...], out: Path | None
) -> None:
    """Predict a device that was left out, from few networks and other devices' block tables."""
    for name in benches:
        bench, cache, used = _bench(name, data, work / f"transfer_{name}.jsonl")
        transfer_part.run(bench, cache, seeds, used)
        text = (
            f"K chosen networks of a device, {columns_part.TESTED} others predicted, with block "
            f"tables of other devices, each fitted to {transfer_part.SHIPPED} networks measured "
            "there. Never among them: the device itself at another batch size. " + NOTES[name]
        )
        sections = transfer_part.sections(bench, cache, used)
        _write(f"transfer_{name}", f"transfer --bench {name}", text, sections, cache, out)


@cli.command()
@options(seeds=20)
def tables(data: Path, work: Path, seeds: int, out: Path | None) -> None:
    """Hide blocks and resolutions of published tables; predict published networks."""
    cache = Cache(work / "tables.jsonl")
    sections = [
        tables_part.hidden_blocks_section(data, cache, seeds),
        tables_part.resolutions_section(data, cache),
        *tables_part.networks_sections(data),
    ]
    text = (
        "Errors and coverage are those of blocks in the first two tables, of whole networks in the "
        "others. Published networks have whole milliseconds; the adapted model of the Pixel 1 is "
        "the shipped one, which holds 22 MobileNetV2 of an older software, too."
    )
    _write("tables", "tables", text, sections, cache, out)


@cli.command()
@options(seeds=20)
@few_option
def cnn(data: Path, work: Path, seeds: int, few: int, out: Path | None) -> None:
    """Predict a family of real networks from few networks of other families."""
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
    _write("cnn", "cnn", text, cnn_part.sections(bench, cache), cache, out)


@cli.command()
@click.option("--data", default=DATA, type=click.Path(exists=True, path_type=Path))
def repeats(data: Path) -> None:
    """Compare measurements of equal networks: what the noise of each column leaves to predict."""
    sections = [repeats_part.section(nb201(data), data)]
    text = (
        "Cells of NAS-Bench-201 that compute the same with the same operations, each measured on "
        "its own; a pair of each group is drawn, the figures are means of "
        f"{repeats_part.DRAWS} draws. A prediction of the true latency correlates with one "
        "measurement as the square root of the correlation of two at most. Noise: standard "
        "deviation of the logarithm of one measurement. Groups differ in their range of latencies "
        "from all cells, so a model may come out somewhat above (pixel3, whose noise has outliers)."
    )
    write("nb201_repeats", "python -m tools.evaluate.latency_published.run repeats", text, sections)
    click.echo("\n\n".join(f"{title}\n\n{content}" for title, content in sections))


def _bench(name: str, data: Path, path: Path) -> tuple[Bench, Cache, list[str]]:
    if name not in BENCHES:
        raise click.UsageError(f"no bench {name!r}; known: {', '.join(BENCHES)}")
    bench = BENCHES[name](data)
    return bench, Cache(path), [column for column in bench.ms if column not in SUMS.get(name, ())]


def _write(
    part: str,
    arguments: str,
    text: str,
    sections: list[tuple[str, str]],
    cache: Cache,
    out: Path | None,
) -> None:
    write(part, f"python -m tools.evaluate.latency_published.run {arguments}", text, sections)
    click.echo("\n\n".join(f"{title}\n\n{content}" for title, content in sections))
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
