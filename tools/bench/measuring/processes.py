"""How many models should a measuring process have, and do latencies repeat as well with many?

    python -m tools.bench.measuring.processes --work DIR [--models 16,64] [--builds 3]

Measures the same isolated blocks and networks several times, with each number of models for a
process in turn. A latency is a ratio to the reference model, so two builds of a table can be
compared: the table has the median and the 90th percentile of their relative differences, within a
number of models and between two of them, and the median difference with its sign, which is the
bias of the second against the first. The phases are those of the worker processes (`phases`). An
interrupted run goes on. Writes ``results/processes.md``. Stop other programs while it runs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from random import Random
from statistics import fmean
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import msgspec
import numpy as np

from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners import local
from hwnas.devices.runners.local import LocalRunner
from hwnas.devices.runners.schedule import MODELS, TOGETHER
from hwnas.files import append_line, read_lines
from hwnas.measurement.disturbance import Disturbed
from hwnas.profiling.bench import ModelJob, export_job, isolated_job, network_job
from hwnas.spaces.mobile.space import mobile_space
from tools.bench.measuring.block_table import mobile_blocks
from tools.lib.options import work_option
from tools.lib.results import command, results_folder, sections, table, write_results

RESULTS = results_folder(__file__) / "processes.md"
SIZES_PX = 28, 64
"""Sizes of the images of the networks."""


class Build(msgspec.Struct, frozen=True):
    """All models measured once."""

    target: str
    models: int
    """Models of a process."""
    number: int
    wall_s: float
    ratios: tuple[float | None, ...]
    """To the reference model; ``None``: disturbed."""
    phases_s: tuple[dict[str, float], ...]
    """Of each process."""


@click.command()
@work_option
@click.option("--target", "targets", multiple=True, default=("host-cpu", "host-cpu-litert"))
@click.option("--models", default="16,64", show_default=True, help="Models of a process.")
@click.option("--builds", default=2, show_default=True, type=click.IntRange(2))
@click.option("--blocks", default=112, show_default=True, type=click.IntRange(1))
@click.option("--networks", default=16, show_default=True, type=click.IntRange(0))
@click.option("--note", default="", help="What else ran on the machine, for the results file.")
def main(
    work: Path,
    targets: tuple[str, ...],
    models: str,
    builds: int,
    blocks: int,
    networks: int,
    note: str,
) -> None:
    """Compare numbers of models of a measuring process."""
    work.mkdir(parents=True, exist_ok=True)
    file, jobs = work / "builds.jsonl", chosen_jobs(blocks, networks)
    counts = [int(count) for count in models.split(",")]
    done = {(each.target, each.models, each.number) for each in read_lines(file, Build)}
    with TemporaryDirectory() as scratch:
        for target in targets:
            profile = find_profile(target)
            wanted = [
                (count, number)
                for number, count in product(range(builds), counts)
                if (target, count, number) not in done
            ]
            subjects = exported(jobs, profile, Path(scratch) / target) if wanted else []
            for count, number in wanted:
                line = build(profile, subjects, count, number, Path(scratch) / "phases.jsonl")
                append_line(file, line)
                click.echo(f"{target}, {count} models, {line.wall_s:.1f} s", err=True)
    lines = list(read_lines(file, Build))
    text = write_results(
        RESULTS,
        "Models of a measuring process",
        command(
            __file__,
            f"--work DIR --models {models} --builds {builds}",
            f"--blocks {blocks} --networks {networks}",
        ),
        f"{blocks} blocks of the space `mobile` and {networks} networks of it, {builds} builds; at "
        f"most {TOGETHER} models of a process are open at once.",
        sections(
            [
                ("Relative differences of two builds", table(*differences(lines, blocks))),
                ("Phases of a process, ms in the mean", table(*phases(lines))),
            ]
        ),
        conditions=note,
    )
    click.echo(text)


def chosen_jobs(blocks: int, networks: int) -> list[ModelJob]:
    """Return blocks and networks of all sizes."""
    pool, rng = mobile_blocks(4 * blocks), Random(0)
    spaces = [mobile_space((3, px, px), 10) for px in SIZES_PX]
    drawn = [spaces[number % len(spaces)] for number in range(networks)]
    return [
        *map(isolated_job, pool[::4]),
        *(network_job(space.architecture(space.random(rng))) for space in drawn),
    ]


def exported(jobs: Sequence[ModelJob], profile: DeviceProfile, folder: Path) -> list[Subject]:
    folder.mkdir()
    return [export_job(job, profile, folder / str(place)) for place, job in enumerate(jobs)]


def build(
    profile: DeviceProfile, subjects: Sequence[Subject], models: int, number: int, phases: Path
) -> Build:
    """Measure all models once, with workers that note their phases."""
    local.WORKER = Path(__file__).with_name("phases.py")
    os.environ["PHASES_FILE"] = str(phases)
    phases.unlink(missing_ok=True)
    runner = LocalRunner(profile)
    MODELS[profile.runtime] = models
    start_s = perf_counter()
    try:
        measured = list(runner.measure(subjects, seed=number))
    except Disturbed as error:
        measured = list(error.measurements)
    wall_s = perf_counter() - start_s
    return Build(
        profile.name,
        models,
        number,
        wall_s,
        tuple(each and each.ratio for each in measured),
        tuple(read_lines(phases, dict[str, float])),
    )


def differences(
    lines: Sequence[Build], blocks: int
) -> tuple[list[str], Iterator[Sequence[object]]]:
    """Return titles and rows: pairs of builds, with as many models a process or not."""
    titles = ["target", "models", "what", "pairs", "median", "90th percentile", "bias"]

    def rows() -> Iterator[Sequence[object]]:
        pairs: dict[tuple[str, int, int], list[tuple[Build, Build]]] = {}
        ordered = sorted(lines, key=lambda each: (each.target, each.models, each.number))
        for first_build, second_build in combinations(ordered, 2):
            if first_build.target == second_build.target:
                key = (first_build.target, first_build.models, second_build.models)
                pairs.setdefault(key, []).append((first_build, second_build))
        for (target, first, second), same in pairs.items():
            for what, part in (("blocks", slice(blocks)), ("networks", slice(blocks, None))):
                logs = np.concatenate([_logs(*pair, part) for pair in same])
                if len(logs):
                    sizes = np.quantile(abs(logs), (0.5, 0.9))
                    shown = [f"{100 * value:.2f} %" for value in (*sizes, np.median(logs))]
                    # builds of one kind have no order
                    shown[2] = shown[2] if first != second else ""
                    yield [target, f"{first} and {second}", what, len(same), *shown]

    return titles, rows()


def _logs(first: Build, second: Build, part: slice) -> np.ndarray:
    """Return the logarithm of each latency of the second build over that of the first."""
    pairs = zip(first.ratios[part], second.ratios[part], strict=True)
    return np.log([b / a for a, b in pairs if a is not None and b is not None])


def phases(lines: Sequence[Build]) -> tuple[list[str], Iterator[Sequence[object]]]:
    """Return titles and rows: the mean time of each phase, and that of all processes."""
    names = ["opening models", "warm-up", "rounds"]
    titles = [
        "target",
        "models",
        "start, rest",
        *names,
        "process",
        "a model in all processes",
    ]

    def rows() -> Iterator[Sequence[object]]:
        for target, models in sorted({(each.target, each.models) for each in lines}):
            same = [each for each in lines if (each.target, each.models) == (target, models)]
            spent_s = Counter[str]()
            for each in same:
                for process in each.phases_s:
                    spent_s.update(process)
            processes = sum(len(each.phases_s) for each in same)
            wall_s = sum(each.wall_s for each in same)
            known_s = [spent_s[name] for name in names]
            parts_s = [wall_s - sum(known_s), *known_s, wall_s]
            cells = [f"{1e3 * value / processes:.0f}" for value in parts_s]
            yield [target, models, *cells, f"{fmean(_model_ms(each) for each in same):.0f}"]

    return titles, rows()


def _model_ms(build: Build) -> float:
    return 1e3 * build.wall_s / len(build.ratios)


if __name__ == "__main__":
    main()
