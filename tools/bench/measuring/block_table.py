"""How long does it take to measure a table of 500 blocks, end to end?

    python -m tools.bench.measuring.block_table --work DIR [--target host-cpu-litert]

The blocks are those of the space ``mobile`` at several sizes of images. Each becomes a model file
of its own, which is timed as ``hwnas latency measure`` does, in batches that an interrupted run
does not repeat; a latency model is fitted to all of them. Writes ``results/block_table.md`` from
the times of all targets in DIR. Stop other programs while it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import click
import msgspec

from hwnas.architecture.architecture import Block
from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import open_runner
from hwnas.devices.runners.schedule import models_per_process
from hwnas.files import append_line, read_lines
from hwnas.latency_models.storage.journal import Entry, fit_entries
from hwnas.profiling.bench import (
    BATCH_SIZE,
    NULL_JOB,
    Bench,
    compile_untrained,
    isolated_job,
)
from hwnas.profiling.sampling import distinct_blocks
from hwnas.spaces.mobile.space import mobile_space
from tools.lib.options import work_option
from tools.lib.results import command, results_folder, table, write_results

SMALLEST_PX, STEP_PX = 28, 4
"""Sizes of the images whose blocks are measured, until there are enough."""


class Spent(msgspec.Struct, frozen=True):
    """Time of a stage."""

    target: str
    stage: str
    blocks: int
    wall_s: float
    cpu_s: float
    """Processor time of this process; other processes measure."""


@click.command()
@work_option
@click.option("--target", "targets", multiple=True, default=("host-cpu", "host-cpu-litert"))
@click.option("--blocks", "number", default=500, show_default=True, type=click.IntRange(1))
@click.option("--note", default="", help="What else ran on the machine, for the results file.")
@click.option("--append", is_flag=True, help="Add a section to the results file.")
def main(work: Path, targets: tuple[str, ...], number: int, note: str, append: bool) -> None:
    """Measure blocks on this machine's runtimes and report how long it took."""
    blocks, times = mobile_blocks(number), work / "spent.jsonl"
    done = {line.target for line in read_lines(times, Spent) if line.stage == "model"}
    for target in targets:
        if target not in done:
            measure(work, target, blocks)
    lines = list(read_lines(times, Spent))
    rows: list[list[object]] = []
    for target in dict.fromkeys(line.target for line in lines):
        stages = {
            stage: [line for line in lines if (line.target, line.stage) == (target, stage)]
            for stage in ("files", "files and measuring", "model")
        }
        total_s = sum(line.wall_s for name in list(stages)[1:] for line in stages[name])
        largest = max(line.blocks for line in lines if line.target == target)
        cells = [f"{sum(line.wall_s for line in part):.1f}" for part in stages.values()]
        most = models_per_process([find_profile(target).runtime])
        rows.append(
            [target, largest, most, *cells, f"{total_s:.1f}", f"{1e3 * total_s / largest:.0f}"]
        )
    spec = find_profile(targets[0]).measure
    titles = ["target", "blocks", "blocks of a process", "files alone, s", "files and measuring, s"]
    text = write_results(
        results_folder(__file__) / "block_table.md",
        "A table of blocks, end to end",
        command(__file__, f"--work DIR --blocks {number}"),
        f"Blocks of the space `mobile` for images from {SMALLEST_PX} px on, each in its own file, "
        f"measured in {spec.processes} processes, which warm up for {spec.warmup_s:g} s each.",
        table([*titles, "model, s", "measuring and model, s", "ms a block"], rows),
        conditions=note,
        append=append,
    )
    click.echo(text)


def mobile_blocks(number: int) -> list[Block]:
    """Return ``count`` different blocks of the space, for images of growing size."""
    blocks: dict[Block, None] = {}
    for px in count(SMALLEST_PX, STEP_PX):
        blocks |= dict.fromkeys(distinct_blocks(mobile_space((3, px, px), 10)))
        if len(blocks) >= number:
            return list(blocks)[:number]
    raise AssertionError


def measure(work: Path, target: str, blocks: list[Block]) -> None:
    """Measure the blocks that are missing in ``work``, a batch at a time."""
    profile, folder = find_profile(target), work / target
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [NULL_JOB, *map(isolated_job, blocks)]
    _timed(work, target, "files", len(blocks), lambda: _write_files(profile.runtime, blocks))
    entries: list[Entry] = []
    with open_runner(profile) as runner:
        bench = Bench(profile, runner, folder)
        done = len(bench.entries())
        for end in range(done + BATCH_SIZE, len(jobs) + BATCH_SIZE, BATCH_SIZE):
            part = jobs[: min(end, len(jobs))]
            _timed(work, target, "files and measuring", len(part) - 1, partial(bench.measure, part))
        entries = bench.entries()
    _timed(work, target, "model", len(blocks), lambda: fit_entries(target, entries))


def _write_files(runtime: RuntimeName, blocks: list[Block]) -> None:
    with TemporaryDirectory() as scratch:
        for number, block in enumerate(blocks):
            compile_untrained((block,), (), Path(scratch) / f"{number}{RUNTIMES[runtime].suffix}")


def _timed(work: Path, target: str, stage: str, blocks: int, run: Callable[[], object]) -> None:
    wall_s, cpu_s = perf_counter(), process_time()
    run()
    spent = Spent(target, stage, blocks, perf_counter() - wall_s, process_time() - cpu_s)
    append_line(work / "spent.jsonl", spent)
    click.echo(f"{target}, {stage}, {blocks} blocks: {spent.wall_s:.1f} s", err=True)


if __name__ == "__main__":
    main()
