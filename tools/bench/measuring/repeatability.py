"""Does a difference of 5 % between two models keep its sign and its size when measured again?

    python -m tools.bench.measuring.repeatability [--comparisons 10] [--pairs 200] [--quiet]
    python -m tools.bench.measuring.repeatability --chain "20 ms" --threads 2 --pairs 0 --quiet

Builds a network and, among slightly larger ones, the one that takes 5 % longer according to a long
interleaved run. It then makes independent comparisons in fresh processes, while another process
computes and sleeps on each other core (not with ``--quiet``). For each policy it reports the
coefficient of variation (CV) over the comparisons, and how often the sign was right:

* one after the other: the median of ``pairs`` calls of each model, each in a process of its own;
* one after the other, minima instead of medians;
* interleaved, ratio of medians: both in one process, call by call in alternating order;
* interleaved, median of paired ratios: the same calls;
* `hwnas benchmark`: rounds in five processes, both models beside the reference.

With ``--chain`` the networks are the chains of 20 and of 21 blocks of that size of
`tools.bench.measuring.busy`. With ``--pairs 0`` only `hwnas benchmark` is judged, whose calls are
those of the device profile. Appends a table to ``results/repeatability.md``. Ten comparisons of the
smallest networks by all policies take about four minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.devices.worker.samples import Samples, Timer
from hwnas.measurement.measurement import compare
from tools.bench.measuring.busy import SIZES, TARGETS, write_networks
from tools.lib.busy import busy_cores
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "repeatability.md"
TARGET_RATIO = 1.05
CHAIN_PAIRS = 200
"""Calls of each chain in the long run."""
WIDTHS = range(33, 49)
"""Widths among which the slower network is chosen; that of the faster network is 32."""


@click.command()
@click.option(
    "--comparisons",
    default=10,
    show_default=True,
    type=click.IntRange(2),
    help="Comparisons by each policy; a spread needs two.",
)
@click.option(
    "--pairs",
    default=200,
    show_default=True,
    type=click.IntRange(0),
    help="Calls of each model in a comparison; 0: hwnas benchmark only.",
)
@click.option("--chain", type=click.Choice(list(SIZES)), help="Compare chains of this size.")
@click.option("--target", default="host-cpu", show_default=True, type=click.Choice(TARGETS))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--quiet", is_flag=True, help="Leave the other cores alone.")
@click.option("--child", "request", hidden=True)
def main(
    comparisons: int,
    pairs: int,
    chain: str | None,
    target: str,
    threads: int,
    quiet: bool,
    request: str | None,
) -> None:
    """Compare two models again and again, by several policies."""
    if request is not None:  # the program calls itself as a worker
        click.echo(json.dumps(child(json.loads(request))))
        return
    with TemporaryDirectory() as folder:
        profile = with_threads(find_profile(target), threads)
        networks = two_networks if chain is None else partial(two_chains, chain=chain)
        fast, slow, ratio = networks(profile, Path(folder))
        other_cores = sorted(os.sched_getaffinity(0))[:-threads]
        with nullcontext() if quiet else busy_cores(other_cores):
            ratios = collect(profile, fast, slow, comparisons, pairs)
    load = "nothing else started" if quiet else "stress on every other core"
    arguments = f"--comparisons {comparisons} --pairs {pairs} --target {target} --threads {threads}"
    size = f'--chain "{chain}"' if chain else ""
    called_as = command(__file__, arguments, size, "--quiet" if quiet else "")
    click.echo(write_report(ratios, ratio, load, called_as))


def with_threads(profile: DeviceProfile, threads: int) -> DeviceProfile:
    """Return the profile of the same device with another number of threads."""
    spec = msgspec.structs.replace(profile.measure, threads=threads)
    return msgspec.structs.replace(profile, measure=spec)


def two_chains(profile: DeviceProfile, folder: Path, chain: str) -> tuple[Path, Path, float]:
    """Return the chains of a size, and their ratio in a long run."""
    suffix = RUNTIMES[profile.runtime].suffix
    fast, slow = [path for path in write_networks(folder, chain) if path.suffix == suffix]
    return fast, slow, paired_ratio(_time(profile, [fast, slow], CHAIN_PAIRS))


def two_networks(profile: DeviceProfile, folder: Path) -> tuple[Path, Path, float]:
    """Return a network, one that takes `TARGET_RATIO` as long, and their ratio in a long run."""
    suffix = RUNTIMES[profile.runtime].suffix
    fast = _compile(folder / f"fast{suffix}", 32)

    def measure(files: Sequence[Path], calls: int) -> dict[Path, float]:
        return {file: paired_ratio(_time(profile, [fast, file], calls)) for file in files}

    def nearest(ratios: dict[Path, float], count: int) -> list[Path]:
        return sorted(ratios, key=lambda file: abs(ratios[file] - TARGET_RATIO))[:count]

    files = [_compile(folder / f"{width}{suffix}", width) for width in WIDTHS]
    ratios = measure(nearest(measure(files, 400), 2), 3000)
    [slow] = nearest(ratios, 1)
    return fast, slow, ratios[slow]


def _compile(path: Path, width: int) -> Path:
    """Write a network of convolutions whose last but one has ``width`` channels."""
    from torch import nn

    from hwnas.export.compile import compile_model

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv2d(32, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 32, 1), nn.ReLU()]
    compile_model(nn.Sequential(*layers).eval(), (3, 64, 64), path)
    return path


def collect(
    profile: DeviceProfile, fast: Path, slow: Path, comparisons: int, pairs: int
) -> dict[str, list[float]]:
    """Return the slow model's time over the fast model's in each comparison, by policy."""
    ratios: dict[str, list[float]] = {}
    for number in range(comparisons):
        values: dict[str, float] = {}
        if pairs:
            a = _time(profile, [fast], pairs)[0]
            b = _time(profile, [slow], pairs)[0]
            both = _time(profile, [fast, slow], pairs)
            values = {
                "one after the other, medians": _ratio(statistics.median, a, b),
                "one after the other, minima": _ratio(min, a, b),
                "interleaved, ratio of medians": _ratio(statistics.median, *both),
                "interleaved, median of paired ratios": paired_ratio(both),
            }
        values["hwnas benchmark"] = by_hwnas(profile, fast, slow, number)
        for name, value in values.items():
            ratios.setdefault(name, []).append(value)
        print(f"{number + 1}/{comparisons}", end=" ", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return ratios


def _ratio(
    statistic: Callable[[list[float]], float], fast: list[float], slow: list[float]
) -> float:
    return statistic(slow) / statistic(fast)


def paired_ratio(samples: list[list[float]]) -> float:
    fast, slow = samples
    return statistics.median(b / a for a, b in zip(fast, slow, strict=True))


def by_hwnas(profile: DeviceProfile, fast: Path, slow: Path, seed: int) -> float:
    with open_runner(profile) as runner:
        a, b = runner.measure([Subject("fast", fast), Subject("slow", slow)], seed=seed)
    return compare(b, a).ratio


def _time(profile: DeviceProfile, files: list[Path], calls: int) -> list[list[float]]:
    """Run `child` in a fresh process."""
    request = json.dumps(
        {
            "files": [str(file) for file in files],
            "calls": calls,
            "runtime": profile.runtime,
            "threads": profile.measure.threads,
        }
    )
    program = [sys.executable, "-m", "tools.bench.measuring.repeatability", "--child", request]
    return json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


def child(request: dict[str, Any]) -> list[list[float]]:
    """Return the times of the calls of each file in ms; calls take turns on the last cores."""
    import numpy as np

    from hwnas.devices.worker.model import input_shapes

    threads = request["threads"]
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-threads:])
    models = [open_model(file, request["runtime"], threads) for file in request["files"]]
    for model in models:
        shapes = input_shapes("", model.inputs)
        model.set_inputs([np.zeros(shape, np.float32) for shape in shapes])
    end, calls = time.monotonic() + 0.5, 0
    while calls < 5 or time.monotonic() < end:
        for model in models:
            model.run()
        calls += 1
    samples, timer = [Samples() for _ in models], Timer(threads)
    for call in range(request["calls"]):
        order = range(len(models)) if call % 2 else reversed(range(len(models)))
        for index in order:
            timer.add(samples[index], models[index].run, 1)
    return [each.wall_ms for each in samples]


def write_report(
    ratios: dict[str, list[float]], long_run_ratio: float, load: str, called_as: str
) -> str:
    """Append a section for one run of this program to the results file, and return it."""
    rows = [
        (
            policy,
            f"{statistics.median(values):.3f}",
            f"{statistics.stdev(values) / statistics.fmean(values):.1%}",
            f"{min(values):.3f}",
            f"{max(values):.3f}",
            f"{sum(value > 1 for value in values)} of {len(values)}",
        )
        for policy, values in ratios.items()
    ]
    titles = ("policy", "median ratio", "CV of the ratio", "lowest", "highest", "sign right")
    return write_results(
        RESULTS,
        f"{time.strftime('%Y-%m-%d')}, {load}",
        called_as,
        f"The slower model takes {long_run_ratio:.3f} times as long in a long interleaved run, "
        "before the stress was started.",
        table(titles, rows),
        conditions=f"load {os.getloadavg()[0]:.1f}",
        append=True,
    )


if __name__ == "__main__":
    main()
