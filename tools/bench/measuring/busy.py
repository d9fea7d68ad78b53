"""What does hwnas report on a machine where other programs compute?

    python -m tools.bench.measuring.busy --work DIR [--max-s 6] [--seconds 280]

Each row measures two chains of equal blocks, of 20 and of 21, so that the second takes 5 % longer,
in one of five sizes (0.1 to 100 ms), beside none, 1, 2, 4 or 8 other programs that compute or copy
memory, with both runtimes and with 1 and 2 threads. It shows the error of the latency against the
median of three quiet rows, the ratio of the two networks, and what was reported: wall clock, CPU
time or nothing (exit code 6), and whether a note says that it may be off. Two quiet rows come
before those beside other programs and one after them; their errors show how well a latency
repeats. Rows are appended to ``DIR/rows.jsonl`` as they are measured; the same
command continues, and rewrites ``results/busy.md``. A quiet row during which other programs took a
twentieth of a core does not count and is measured again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median

import click
import msgspec

from hwnas.architecture.architecture import Block
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.files import append_line, read_lines, write_json
from hwnas.measurement.disturbance import Disturbed, doubt_line
from hwnas.measurement.measurement import Measurement, compare
from hwnas.profiling.bench import compile_untrained
from tools.lib.busy import busy_programs
from tools.lib.options import out_option, work_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "busy.md"
TARGETS = ("host-cpu", "host-cpu-litert")
SIZES = {
    "0.1 ms": (16, 3, 7),
    "0.5 ms": (24, 4, 14),
    "4 ms": (32, 6, 28),
    "20 ms": (32, 6, 64),
    "100 ms": (48, 6, 80),
}
"""Channels, expansion and pixels of the blocks, by the rough latency of a chain."""
BLOCKS = (20, 21)
QUIET = ("quiet", "quiet again", "quiet at the end")
BUSY = tuple(f"{count} {kind}" for kind in ("compute", "memory") for count in (1, 2, 4, 8))
LOADS = (*QUIET[:2], *BUSY, *QUIET[2:])
THREADS = "1,2"
GOAL = 0.03
"""Error within which a reported latency should be."""


class Row(msgspec.Struct, frozen=True):
    """The report of a pair of networks."""

    target: str
    threads: int
    size: str
    load: str
    latency_ms: float | None = None
    """Latency of the shorter chain; ``None``: exit code 6."""
    ratio: float | None = None
    """Latency of the longer chain divided by that of the shorter."""
    clock: str = "exit 6"
    doubted: bool = False
    """Whether a note says that the latency may be off, since other programs computed or since two
    references compare differently."""
    others: float = 0.0
    """Cores that were used by programs other than those of the row."""

    @property
    def key(self) -> tuple[str, int, str, str]:
        return self.target, self.threads, self.size, self.load


@click.command()
@work_option
@click.option("--max-s", default=20.0, show_default=True, help="Longest time of a batch.")
@click.option("--seconds", default=0.0, help="Stop after this time; 0: when all is measured.")
@click.option("--loads", default=",".join(LOADS), help="Loads to measure.")
@click.option("--threads", "counts", default=THREADS, show_default=True, help="Numbers of threads.")
@out_option(RESULTS)
def main(work: Path, max_s: float, seconds: float, loads: str, counts: str, out: Path) -> None:
    """Measure networks beside busy programs."""
    os.environ["HWNAS_HOME"] = str(work / "home")
    path, end_s = work / "rows.jsonl", time.monotonic() + (seconds or float("inf"))
    files = {size: write_networks(work, size) for size in SIZES}
    done = {row.key for row in read_lines(path, Row)}
    threads_to_measure = [int(count) for count in counts.split(",")]
    for threads, load, size, target in plan(loads.split(",") if loads else (), threads_to_measure):
        if (target, threads, size, load) in done:
            continue
        if time.monotonic() > end_s:
            break
        profile = profile_of(target, threads, max_s)
        row = measure(files[size], profile, size, load, work / "calls")
        if load not in QUIET or (row.latency_ms and row.others < 0.05):
            append_line(path, row)
        click.echo(f"{row}")
    arguments = ["--work DIR", f"--max-s {max_s:g}"]
    if counts != THREADS:
        arguments.append(f"--threads {counts}")
    if out.resolve() != RESULTS:
        arguments.append(f"--out {out}")
    write_report(list(read_lines(path, Row)), command(__file__, *arguments), out)


def plan(loads: Sequence[str], counts: Sequence[int]) -> Iterator[tuple[int, str, str, str]]:
    """Yield threads, load, size and target of all rows."""
    return product(counts, loads, SIZES, TARGETS)


def write_networks(folder: Path, size: str) -> list[Path]:
    """Write the two chains of a size in both formats."""
    channels, expand, pixels = SIZES[size]
    stem = Block("conv", 3, channels, 3, 1, 1, pixels)
    block = Block("mbconv", channels, channels, 3, 1, expand, pixels)
    files: list[Path] = []
    for count, runtime in product(BLOCKS, ("onnxruntime", "litert")):
        path = folder / f"{size.replace(' ', '')}-{count}{RUNTIMES[runtime].suffix}"
        if not path.exists():
            compile_untrained((stem, *[block] * count), (), path)
        files.append(path)
    return files


def profile_of(target: str, threads: int, max_s: float) -> DeviceProfile:
    profile = find_profile(target)
    spec = msgspec.structs.replace(
        profile.measure, threads=threads, processes=2, min_rounds=8, max_s=max_s
    )
    return msgspec.structs.replace(profile, measure=spec)


def measure(
    files: Sequence[Path], profile: DeviceProfile, size: str, load: str, raw: Path | None = None
) -> Row:
    """Measure the two chains beside the programs of a load; all calls are written to ``raw``."""
    suffix = RUNTIMES[profile.runtime].suffix
    subjects = [Subject(path.stem, path) for path in files if path.suffix == suffix]
    count, _, kind = load.partition(" ")
    row = Row(profile.name, profile.measure.threads, size, load)
    programs = busy_programs(0 if load in QUIET else int(count), memory=kind == "memory")
    with programs as started, open_runner(profile) as runner:
        try:
            shorter, longer = runner.measure(subjects, calibrated_reference_ms=1.0)
            if raw:
                write_json(raw / f"{'-'.join(map(str, row.key))}.json", (shorter, longer))
        except Disturbed as error:
            click.echo(str(error), err=True)
            known = [each for each in error.measurements if each is not None]
            return msgspec.structs.replace(row, others=_others(known, started))
    return msgspec.structs.replace(
        row,
        latency_ms=shorter.median_ms,
        ratio=compare(longer, shorter).ratio,
        clock="CPU time" if "cpu" in (shorter.clock, longer.clock) else "wall",
        doubted=bool(doubt_line([shorter])),
        others=_others([shorter], started),
    )


def _others(measurements: Sequence[Measurement], started: Sequence[int]) -> float:
    programs = [program for each in measurements for program in each.environment.programs]
    return sum(program.cores for program in programs if program.pid not in started)


def write_report(rows: Sequence[Row], called_as: str, out: Path) -> None:
    """Write the table of all rows, and how many of them reach the goal."""
    quiet_ms: dict[tuple[str, int, str], list[float]] = {}
    for row in rows:
        if row.load in QUIET and row.latency_ms:
            quiet_ms.setdefault(row.key[:3], []).append(row.latency_ms)
    lines: list[tuple[str, ...]] = []
    beside: list[float] = []
    alone: list[float] = []
    silent: list[float] = []
    signs: list[bool] = []
    sizes = list(SIZES)
    for row in sorted(rows, key=lambda r: (*r.key[:2], sizes.index(r.size), LOADS.index(r.load))):
        error = sign = "-"
        if row.latency_ms and row.ratio and (known_ms := quiet_ms.get(row.key[:3])):
            change = row.latency_ms / median(known_ms) - 1
            error, sign = f"{change:+.1%}", "right" if row.ratio > 1 else "wrong"
            if row.load in QUIET:
                alone.append(abs(change))
            else:
                beside.append(abs(change))
                signs.append(row.ratio > 1)
                silent += [abs(change)] * (not row.doubted)
        ratio = f"{row.ratio:.3f}" if row.ratio else "-"
        reported = f"{row.clock}, doubted" if row.doubted else row.clock
        lines.append(
            (row.target, str(row.threads), row.size, row.load, reported, error, ratio, sign)
        )
    disturbed = sum(row.load not in QUIET for row in rows)
    planned = len(SIZES) * len(TARGETS) * 2 * len(BUSY)
    text = (
        f"{disturbed} of {planned} rows beside other programs were measured. {len(beside)} report "
        f"a latency: {_within(beside)}; the sign of the 5 % is right in {sum(signs)}. "
        f"{len(silent)} of them have no note that they may be off: {_within(silent)}. "
        f"{disturbed - len(beside)} rows end with exit code 6 or have no quiet row to compare "
        f"with. Of {len(alone)} quiet rows, {_within(alone)}."
    )
    titles = ("target", "threads", "size", "load", "reported", "error", "ratio of 21:20", "sign")
    write_results(out, "Latencies on a busy machine", called_as, text, table(titles, lines))


def _within(errors: Sequence[float]) -> str:
    within = sum(error <= GOAL for error in errors)
    largest = f", the largest error is {max(errors):.1%}" if errors else ""
    return f"{within} are within {GOAL:.0%} of the median quiet row{largest}"


if __name__ == "__main__":
    main()
